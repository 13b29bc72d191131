// Gradient of a maximum over windows that lie side by side: each window's goes to its first maximum; channels-last, with an epilogue.
import { type Int, type Kernel, KernelBuilder, plus, type SimdTarget, times, type Vec } from "../ir/kernel.ts";
import { type Epilogue, EpilogueCode } from "./epilogue.ts";
import { shareOut } from "./work.ts";

export interface MaxPoolGradientShape {
  readonly batch: number;
  readonly channels: number;
  /** Windows on each axis, and elements of each window. */
  readonly windows: readonly [number, number];
  readonly taps: readonly [number, number];
}

/** Buffers: x (batch, rows, columns, channels), y and dy (batch, windows, channels), the epilogue's inputs, output like x. */
export function maxPoolGradientKernel(
  name: string,
  shape: MaxPoolGradientShape,
  epilogue: Epilogue,
  target: SimdTarget,
  threads: number,
): Kernel {
  const { batch, channels, windows, taps } = shape;
  const b = new KernelBuilder(name, target, threads);
  const bytes = 4 * batch * windows[0] * windows[1] * channels;
  const x = b.buffer("x", bytes * taps[0] * taps[1], "read");
  const y = b.buffer("y", bytes, "read");
  const dy = b.buffer("dy", bytes, "read");
  const tail = new EpilogueCode(b, epilogue, channels);

  /** `lanes` channels of window `column` of window row `row`, counted over all images. */
  const window = (row: Int, column: Int, channel: Int, lanes: number): void => {
    const at = plus(times(plus(times(row, windows[1]), column), channels * 4), times(channel, 4));
    const largest = b.load(y, at, lanes);
    const given = b.load(dy, at, lanes);
    let open: Vec = b.i32(-1); // lanes whose maximum has not been met
    for (let tap = 0; tap < taps[0] * taps[1]; tap++) {
      const line = plus(times(row, taps[0]), Math.floor(tap / taps[1]));
      const pixel = plus(times(line, windows[1] * taps[1]), times(column, taps[1]), tap % taps[1]);
      const isMet = b.op("and", b.op("eq", b.load(x, plus(times(pixel, channels * 4), times(channel, 4)), lanes), largest), open);
      open = b.op("andnot", isMet, open);
      tail.storeTile([[b.op("and", isMet, given)]], { row: pixel, rowStep: 1, column: () => channel, lanesOf: () => lanes });
    }
  };

  const whole = channels - (channels % b.lanes);
  shareOut(b, [batch * windows[0]], ([rows]) => {
    b.loop(rows.from, rows.to, 1, (row) => {
      b.loop(0, windows[1], 1, (column) => {
        b.loop(0, whole, b.lanes, (channel) => window(row, column, channel, b.lanes));
        if (whole < channels) window(row, column, whole, channels - whole);
      });
    });
  });
  return b.build();
}
