// Layers with constant weights that are mostly zeros, compiled for every device with bias and activation behind them: against float64, in any number of threads.
import { describe, expect, test } from "vitest";
import { openDevice } from "../../src/devices/open.ts";
import { apply, type Graph, type Value } from "../../src/ir/graph.ts";
import { fromNumbers, type TensorData } from "../../src/ir/tensor.ts";
import { OPS } from "../../src/ops/index.ts";
import { constantValue, input } from "../../src/ops/source.ts";
import { compile } from "../../src/run/compile.ts";
import type { Program } from "../../src/run/program.ts";
import type { SparseChoice } from "../../src/run/step.ts";
import { DEVICES, expectCompiledRight, randomNumbers, useDevice } from "./devices.ts";

const op = (name: string, ...inputs: Value[]): Value => apply(OPS.get(name)!, inputs, {}, name)[0]; // the test names operators that exist
const turned = (x: Value, perm: readonly number[]): Value => apply(OPS.get("Transpose")!, [x], { perm }, "turned")[0];
const dense = (seed: number, ...shape: number[]): TensorData =>
  fromNumbers(
    "f32",
    shape,
    randomNumbers(
      seed,
      shape.reduce((a, b) => a * b, 1),
    ),
  );

function pruned(seed: number, rows: number, columns: number, density: number): TensorData {
  const keep = randomNumbers(seed + 1, rows * columns);
  const values = randomNumbers(seed, rows * columns).map((x, i) => ((keep[i] + 1) / 2 < density ? x : 0));
  return fromNumbers("f32", [rows, columns], values);
}

const inputOf = (...shape: readonly number[]): Value => input("x", { dtype: "f32", shape });
const weightsOf = (seed: number, rows: number, columns: number, density: number, ...more: readonly number[]): Value => {
  const { dtype, data } = pruned(seed, rows, columns, density);
  return constantValue({ dtype, shape: [rows, columns, ...more], data });
};
const linear = (x: Value, w: Value): Value => op("MatMul", x, turned(w, [1, 0]));
/** Pixels times 1×1 weights, with a bias: x (n, h, w, c) as the layout pass leaves it. */
const pointwise = (x: Value, w: Value, outputs: number): Value =>
  turned(op("Conv", turned(x, [0, 3, 1, 2]), w, constantValue(dense(5, outputs))), [0, 2, 3, 1]);

interface Case {
  readonly name: string;
  readonly x: Value;
  readonly product: (x: Value) => Value;
  /** What is added: one for each channel, or a tensor of the result's shape. */
  readonly tail: readonly number[];
}
const cases: readonly Case[] = [
  { name: "a row", x: inputOf(1, 330), product: (x) => op("MatMul", x, weightsOf(1, 330, 250, 0.04)), tail: [250] },
  { name: "a matrix on the left", x: inputOf(90, 70), product: (x) => op("MatMul", weightsOf(2, 133, 90, 0.1), x), tail: [133, 70] },
  { name: "a large one", x: inputOf(300, 20), product: (x) => op("MatMul", weightsOf(12, 400, 300, 0.3), x), tail: [400, 20] },
  { name: "a batch", x: inputOf(37, 150), product: (x) => op("MatMul", x, weightsOf(3, 150, 130, 0.1)), tail: [130] },
  { name: "a batch, weights turned", x: inputOf(131, 64), product: (x) => linear(x, weightsOf(4, 65, 64, 0.05)), tail: [131, 65] },
  { name: "batches of rows", x: inputOf(2, 3, 17, 70), product: (x) => linear(x, weightsOf(6, 30, 70, 0.2)), tail: [30] },
  { name: "fewer rows than lanes", x: inputOf(3, 129), product: (x) => linear(x, weightsOf(7, 200, 129, 0.1)), tail: [3, 200] },
  { name: "full weights", x: inputOf(20, 66), product: (x) => linear(x, weightsOf(8, 66, 66, 1)), tail: [66] },
  { name: "1×1 windows", x: inputOf(2, 5, 13, 40), product: (x) => pointwise(x, weightsOf(9, 70, 40, 0.1, 1, 1), 70), tail: [70] },
  { name: "one channel of few", x: inputOf(1, 3, 7, 3), product: (x) => pointwise(x, weightsOf(10, 2, 3, 0.5, 1, 1), 2), tail: [2] },
];
const graphOf = ({ x, product, tail }: Case): Graph => ({
  inputs: [x],
  outputs: [{ name: "out", value: op("Relu", op("Add", product(x), constantValue(dense(3, ...tail)))) }],
});
const choicesOf = (program: Program): readonly SparseChoice[] => program.schedule.backend.sparse?.choices ?? [];

describe.each(DEVICES)("$name", ({ open }) => {
  const device = useDevice(open);

  test.each(cases)("$name", async (one) => {
    const graph = graphOf(one);
    const inputs = { x: dense(4, ...one.x.type.shape) };
    for (const isSeparate of [false, true]) await expectCompiledRight(graph, inputs, device(), one.name, isSeparate, { sparse: "always" });
    const program = await compile(graph, { device: device(), sparse: "always" });
    expect(choicesOf(program).map((c) => c.isSparse)).toEqual([true]);
    program.free();
  });
});

/** |e| ≤ u·|y| + 4·√nonzeros·2⁻²⁴·Σ|w||x|, the same bits for one thread and for three. */
test.each(["avx512", "avx2", "wasm"] as const)("%s: error bound, any number of threads", async (name) => {
  if (!DEVICES.some((d) => d.name.startsWith(name))) return;
  const [m, k, n] = [200, 310, 270];
  const w = pruned(11, n, k, 0.12);
  const x = dense(12, m, k);
  const value = linear(inputOf(m, k), constantValue(w));
  const graph: Graph = { inputs: [value.node.inputs[0]!], outputs: [{ name: "y", value }] };
  const results: Float32Array[] = [];
  for (const threads of [1, 3]) {
    const device = await openDevice(name === "wasm" ? { device: "wasm", threads } : { device: "x86", isa: name, threads });
    const program = await compile(graph, { device, sparse: "always" });
    results.push((await program.run({ x })).y.data as Float32Array);
    program.free();
    device.close();
  }
  expect(results[0]).toEqual(results[1]);
  const [a, b] = [x.data as Float32Array, w.data as Float32Array];
  let worst = 0;
  for (let i = 0; i < m; i++)
    for (let j = 0; j < n; j++) {
      let [sum, size, count] = [0, 0, 0];
      for (let l = 0; l < k; l++) {
        const p = a[i * k + l] * b[j * k + l];
        sum += p;
        size += Math.abs(p);
        count += b[j * k + l] === 0 ? 0 : 1;
      }
      const bound = 2 ** -24 * (Math.abs(sum) + 4 * Math.sqrt(count) * size);
      worst = Math.max(worst, Math.abs(results[0][i * n + j] - sum) / (bound || 2 ** -149));
    }
  expect(worst).toBeLessThanOrEqual(1);
});
