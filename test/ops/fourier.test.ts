// Fourier transforms as products against sums written out, for points of all kinds; GPUs have kernels for all that products are made of.
import { expect, test } from "vitest";
import { apply, type Graph } from "../../src/ir/graph.ts";
import { fromNumbers, toNumbers } from "../../src/ir/tensor.ts";
import { evaluateGraph, OPS } from "../../src/ops/index.ts";
import { constantValue, input } from "../../src/ops/source.ts";
import { expand } from "../../src/passes/expand.ts";
import { gpuBackend } from "../../src/run/gpu/backend.ts";
import { scheduleGraph } from "../../src/run/schedule.ts";
import { H200 } from "../kernels/simt_machine.ts";
import { randomNumbers } from "../run/devices.ts";

const number = (value: number) => constantValue(fromNumbers("i64", [], [value]));

function dft(length: number, points: number, parts: number, attrs: { inverse?: number; onesided?: number }): Graph {
  const x = input("x", { dtype: "f32", shape: [2, length, 3, parts] });
  const [value] = apply(OPS.get("DFT")!, [x, number(points), number(1)], attrs, "dft");
  return { inputs: [x], outputs: [{ name: "y", value }] };
}

/** Element k of the transform of line (b, c) of x (2, length, 3, parts), term by term. */
function summed(
  x: Float64Array,
  length: number,
  points: number,
  parts: number,
  inverse: boolean,
  [b, c, k]: readonly number[],
): [number, number] {
  let [re, im] = [0, 0];
  for (let j = 0; j < Math.min(length, points); j++) {
    const at = ((b * length + j) * 3 + c) * parts;
    const angle = ((inverse ? 1 : -1) * 2 * Math.PI * ((j * k) % points)) / points;
    const [xr, xi] = [x[at], parts === 2 ? x[at + 1] : 0];
    re += xr * Math.cos(angle) - xi * Math.sin(angle);
    im += xr * Math.sin(angle) + xi * Math.cos(angle);
  }
  const scale = inverse ? 1 / points : 1;
  return [re * scale, im * scale];
}

test.each([
  { points: 1, parts: 2 },
  { points: 7, parts: 1 },
  { points: 12, parts: 2, length: 9 },
  { points: 12, parts: 1, length: 20, onesided: 1 },
  { points: 512, parts: 2, inverse: 1 },
  { points: 514, parts: 1, onesided: 1 }, // two and a prime
  { points: 1000, parts: 2, inverse: 1 },
  { points: 521, parts: 1 }, // a prime too large for one product
  { points: 1042, parts: 2 },
])("$points points of $parts parts", ({ points, parts, length = points, inverse = 0, onesided = 0 }) => {
  const graph = dft(length, points, parts, { inverse, onesided });
  const x = fromNumbers("f32", [2, length, 3, parts], randomNumbers(points, 6 * length * parts));
  const { y } = evaluateGraph(graph, { x });
  const kept = onesided ? Math.floor(points / 2) + 1 : points;
  expect(y.shape).toEqual([2, kept, 3, 2]);
  const values = toNumbers(y);
  const tolerance = (inverse ? 1 / Math.sqrt(points) : Math.sqrt(points)) * 1e-5;
  for (const k of new Set([0, 1, kept >> 1, Math.max(0, kept - 2), kept - 1]))
    for (const [b, c] of [
      [0, 0],
      [1, 2],
    ] as const) {
      const [re, im] = summed(toNumbers(x), length, points, parts, inverse !== 0, [b, c, Math.min(k, kept - 1)]);
      const at = ((b * kept + Math.min(k, kept - 1)) * 3 + c) * 2;
      expect(Math.abs(values[at] - re)).toBeLessThan(tolerance);
      expect(Math.abs(values[at + 1] - im)).toBeLessThan(tolerance);
    }
});

test.each([
  { points: 400, onHost: 0 },
  { points: 2048, onHost: 0 },
  { points: 521, onHost: 1 },
])("$points points: $onHost steps in JavaScript", ({ points, onHost }) => {
  const graph = expand().run(dft(points, points, 1, { onesided: 1 }));
  const { steps } = scheduleGraph(graph, gpuBackend(H200, 256));
  expect(steps.filter(({ calls }) => calls === null)).toHaveLength(onHost);
});

test("frames of a signal overlap, begin at steps, and are weighted", () => {
  const x = input("x", { dtype: "f32", shape: [2, 50, 1] });
  const window = constantValue(
    fromNumbers(
      "f32",
      [12],
      Float64Array.from({ length: 12 }, (_, i) => 1 + i),
    ),
  );
  const [value] = apply(OPS.get("STFT")!, [x, number(8), window], { onesided: 1 }, "stft");
  const signal = fromNumbers("f32", [2, 50, 1], randomNumbers(4, 100));
  const { y } = evaluateGraph({ inputs: [x], outputs: [{ name: "y", value }] }, { x: signal });
  expect(y.shape).toEqual([2, 5, 7, 2]);
  const [data, values] = [toNumbers(signal), toNumbers(y)];
  for (let b = 0; b < 2; b++)
    for (let frame = 0; frame < 5; frame++)
      for (let k = 0; k < 7; k++) {
        let [re, im] = [0, 0];
        for (let j = 0; j < 12; j++) {
          const v = data[b * 50 + frame * 8 + j] * (1 + j);
          re += v * Math.cos((2 * Math.PI * j * k) / 12);
          im -= v * Math.sin((2 * Math.PI * j * k) / 12);
        }
        const at = ((b * 5 + frame) * 7 + k) * 2;
        expect(values[at]).toBeCloseTo(re, 3);
        expect(values[at + 1]).toBeCloseTo(im, 3);
      }
});
