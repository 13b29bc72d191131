// Depthwise convolutions and pools on GPUs, run in JavaScript: neighbouring positions in a thread, strides, dilations, borders; against loops.
import { expect, test } from "vitest";
import { unlinearIndex } from "../../src/ir/index_expr.ts";
import { elementCount } from "../../src/ir/tensor.ts";
import { type ChannelWindows, channelWindows } from "../../src/kernels/simt/channel_windows.ts";
import { noTail } from "../../src/kernels/simt/tail.ts";
import { randomNumbers } from "../run/devices.ts";
import { H200, runKernel } from "./simt_machine.ts";

type Size = readonly [number, number];
interface Case {
  readonly channels: number;
  readonly input: Size;
  readonly output: Size;
  readonly kernel: Size;
  readonly strides: Size;
  readonly dilations: Size;
  readonly pads: Size;
  readonly isPool?: true;
  /** Threads that keep the target busy, and what each has. */
  readonly busy: number;
  readonly positions: number;
  readonly run: number;
}
const CASES: readonly Case[] = [
  { channels: 8, input: [9, 16], output: [9, 16], kernel: [5, 5], strides: [1, 1], dilations: [1, 1], pads: [2, 2], busy: 140, positions: 4, run: 4 },
  { channels: 8, input: [9, 20], output: [5, 10], kernel: [3, 3], strides: [2, 2], dilations: [1, 1], pads: [1, 1], busy: 100, positions: 2, run: 1 },
  { channels: 8, input: [9, 17], output: [5, 13], kernel: [3, 3], strides: [1, 1], dilations: [2, 2], pads: [0, 0], busy: 1000, positions: 1, run: 1 },
  { channels: 6, input: [8, 20], output: [4, 20], kernel: [2, 3], strides: [2, 1], dilations: [1, 1], pads: [0, 1], busy: 100, positions: 4, run: 2 },
  { channels: 12, input: [6, 12], output: [3, 6], kernel: [2, 2], strides: [2, 2], dilations: [1, 1], pads: [0, 0], isPool: true, busy: 60, positions: 2, run: 1 },
]; // biome-ignore format: a table

test.each(CASES)("$channels channels of $input by $kernel, strides $strides, dilations $dilations, $positions positions of $run", (c) => {
  const { channels, input, output, kernel, strides, dilations, pads, isPool } = c;
  const w: ChannelWindows = {
    dtype: "f32",
    images: 2,
    channels,
    weights: isPool ? null : "f32",
    input,
    output,
    kernel,
    strides,
    dilations,
    padsBegin: pads,
    tail: noTail({ dtype: "f32", shape: [2, ...output, channels] }),
    place: (_, row, channel) => [...unlinearIndex(row, [2, ...output]), channel],
  };
  const count = 2 * elementCount(output);
  const made = channelWindows("windows", w, { ...H200, units: c.busy / 320 });
  expect(made.grid[0]).toBe(Math.ceil((count * channels) / c.run / c.positions / 128));
  const image = Float64Array.from(randomNumbers(1, 2 * elementCount(input) * channels));
  const weights = Float64Array.from(randomNumbers(2, elementCount(kernel) * channels));
  const out = new Float64Array(count * channels).fill(Number.NaN);
  runKernel(made, isPool ? [image, out] : [image, weights, out], "early");
  let worst = 0;
  for (let n = 0; n < 2; n++)
    for (let y = 0; y < output[0]; y++)
      for (let x = 0; x < output[1]; x++)
        for (let ch = 0; ch < channels; ch++) {
          let want = isPool ? Number.NEGATIVE_INFINITY : 0;
          for (let i = 0; i < kernel[0]; i++)
            for (let j = 0; j < kernel[1]; j++) {
              const [v, u] = [y * strides[0] - pads[0] + i * dilations[0], x * strides[1] - pads[1] + j * dilations[1]];
              if (v < 0 || v >= input[0] || u < 0 || u >= input[1]) continue;
              const value = image[((n * input[0] + v) * input[1] + u) * channels + ch];
              want = isPool ? Math.max(want, value) : want + value * weights[(i * kernel[1] + j) * channels + ch];
            }
          const got = out[((n * output[0] + y) * output[1] + x) * channels + ch];
          worst = Math.max(worst, Number.isNaN(got) ? Number.POSITIVE_INFINITY : Math.abs(got - want));
        }
  expect(worst).toBeLessThan(1e-6);
});
