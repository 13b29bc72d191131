// Products with constant matrices that are mostly zeros, compiled for every device with bias and activation behind them; the kernels that AVX-512 gets are sparse.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { CpuDevice } from "../../src/devices/cpu.ts";
import { apply, type Graph, type Value } from "../../src/ir/graph.ts";
import type { Kernel } from "../../src/ir/kernel.ts";
import { fromNumbers, type TensorData } from "../../src/ir/tensor.ts";
import { OPS } from "../../src/ops/index.ts";
import { constantValue, input, inputName } from "../../src/ops/source.ts";
import { implement } from "../../src/run/implement/index.ts";
import { DEVICES, expectCompiledRight, randomNumbers } from "./devices.ts";

const op = (name: string, ...inputs: Value[]): Value => apply(OPS.get(name)!, inputs, {}, name)[0]; // the test names operators that exist
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

const x = input("x", { dtype: "f32", shape: [1, 330] });
const y = input("y", { dtype: "f32", shape: [90, 70] });
const cases: readonly (readonly [string, Value, Value, readonly number[]])[] = [
  ["a row times a sparse matrix", x, op("MatMul", x, constantValue(pruned(1, 330, 250, 0.04))), [250]],
  ["a sparse matrix times a matrix", y, op("MatMul", constantValue(pruned(2, 133, 90, 0.1)), y), [133, 70]],
];

describe.each(DEVICES)("$name", ({ open }) => {
  let device: CpuDevice;
  beforeAll(async () => {
    device = await open();
  });
  afterAll(() => device.close());

  test.each(cases)("%s", async (_, from, product, tail) => {
    const value = op("Relu", op("Add", product, constantValue(dense(3, ...tail))));
    const graph: Graph = { inputs: [from], outputs: [{ name: "out", value }] };
    for (const isSeparate of [false, true])
      await expectCompiledRight(graph, { [inputName(from)]: dense(4, ...from.type.shape) }, device, "sparse", isSeparate);
    const kernels = new Map<string, Kernel>();
    implement(product.node, "product", { target: device.target, threads: device.threads, kernels });
    const isSparse = [...kernels.keys()].some((key) => key.startsWith("sparse"));
    expect(isSparse).toBe(device.target.name === "avx512");
  });
});
