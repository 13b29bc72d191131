// Weights with few nonzeros on the left of a product get code made for their pattern, with bias, activation and residual behind it: against float64, in any number of threads.
import { describe, expect, test } from "vitest";
import { apply, type Graph, type Value } from "../../src/ir/graph.ts";
import { fromNumbers, type TensorData } from "../../src/ir/tensor.ts";
import { noEpilogue } from "../../src/kernels/epilogue.ts";
import { patternOf, sparsePatternKernel } from "../../src/kernels/sparse_pattern.ts";
import { OPS } from "../../src/ops/index.ts";
import { constantValue, input } from "../../src/ops/source.ts";
import { compile } from "../../src/run/compile.ts";
import { codeBytes } from "../../src/run/implement/sparse_code_cost.ts";
import { USUAL_RATES } from "../../src/run/implement/sparse_cost.ts";
import { cooFromDense } from "../../src/sparse/coo.ts";
import { csrFromCoo } from "../../src/sparse/csr.ts";
import { DEVICES, expectCompiledRight, randomNumbers, useDevice } from "./devices.ts";

const op = (name: string, ...inputs: Value[]): Value => apply(OPS.get(name)!, inputs, {}, name)[0]; // the test names operators that exist
const random = (seed: number, ...shape: number[]): TensorData =>
  fromNumbers(
    "f32",
    shape,
    randomNumbers(
      seed,
      shape.reduce((a, b) => a * b, 1),
    ),
  );
const pruned = (rows: number, depth: number, density: number): TensorData => {
  const keep = randomNumbers(2, rows * depth);
  return fromNumbers(
    "f32",
    [rows, depth],
    randomNumbers(1, rows * depth).map((v, i) => ((keep[i] + 1) / 2 < density ? v : 0)),
  );
};

interface Case {
  readonly name: string;
  readonly shape: readonly [rows: number, depth: number, n: number, density: number];
  readonly tail: (y: Value, rows: number, n: number) => Value;
}
const cases: readonly Case[] = [
  { name: "nothing follows", shape: [133, 60, 64, 0.1], tail: (y) => y },
  {
    name: "bias and rectifier",
    shape: [60, 300, 150, 0.05],
    tail: (y, rows) => op("Relu", op("Add", y, constantValue(random(3, rows, 1)))),
  },
  { name: "a residual", shape: [50, 64, 128, 0.2], tail: (y, rows, n) => op("Add", y, constantValue(random(4, rows, n))) },
  { name: "much follows", shape: [96, 50, 70, 0.2], tail: (y) => op("Tanh", op("Add", op("Erf", y), op("Sigmoid", op("Mul", y, y)))) },
  { name: "few columns", shape: [200, 100, 5, 0.1], tail: (y) => op("Relu", y) },
];
const graphOf = ({ shape: [rows, depth, n, density], tail }: Case): Graph => {
  const x = input("x", { dtype: "f32", shape: [depth, n] });
  return { inputs: [x], outputs: [{ name: "y", value: tail(op("MatMul", constantValue(pruned(rows, depth, density)), x), rows, n) }] };
};

describe.each(DEVICES)("$name", ({ open }) => {
  const device = useDevice(open);

  test.each(cases)("$name", async (one) => {
    const graph = graphOf(one);
    const inputs = { x: random(5, one.shape[1], one.shape[2]) };
    await expectCompiledRight(graph, inputs, device(), one.name, false, "always");
    const program = await compile(graph, { device: device(), sparse: "always" });
    expect(program.schedule.backend.sparse?.choices.map((c) => c.isCode)).toEqual([device().name === "x86" ? true : undefined]);
    program.free();
  });

  test.each([
    { what: "few nonzeros", shape: [64, 64, 16, 0.04], isCode: true },
    { what: "more, where code comes fast", shape: [128, 128, 8, 0.05], isCode: true },
    { what: "more, where it comes slowly", shape: [128, 128, 8, 0.05], fetched: 0.25, isCode: undefined },
    { what: "many columns, for which code comes anew", shape: [96, 96, 1024, 0.1], isCode: undefined },
    { what: "more than code pays for", shape: [256, 256, 64, 0.3], isCode: undefined },
  ] as const)("by predictions: $what", async ({ shape, isCode, ...slow }) => {
    const rates = USUAL_RATES[device().target.name];
    const program = await compile(graphOf({ name: "", shape, tail: (y) => y }), {
      device: device(),
      sparseRates: { ...rates, code: { ...rates.code, ...slow } },
    });
    expect(program.schedule.backend.sparse?.choices.map((c) => c.isCode)).toEqual([device().name === "x86" ? isCode : undefined]);
    program.free();
  });

  test.each([
    [64, 64, 16, 0.1],
    [128, 128, 64, 0.05],
    [256, 64, 8, 0.05],
    [60, 300, 150, 0.05],
  ])("bytes of code are counted right to a fifth: %i×%i by %i columns, %d of it nonzeros", async (rows, depth, n, density) => {
    const { target, threads } = device();
    if (target.name === "wasm") return; // no network has it there
    const epilogue = noEpilogue({ dtype: "f32", shape: [rows, n] });
    const pattern = patternOf(csrFromCoo(cooFromDense(pruned(rows, depth, density))), n, target);
    const { code } = await device().compile([sparsePatternKernel("code", pattern, epilogue, target, threads)]);
    const ratio = codeBytes({ rows, depth, n, length: pattern.nonzeros }, target) / code.length;
    expect(ratio).toBeGreaterThan(0.8);
    expect(ratio).toBeLessThan(1.2);
  });
});
