// Weights with few nonzeros on the left of a product get code made for their pattern, with bias, activation and residual behind it: against float64, in any number of threads.
import { describe, expect, test } from "vitest";
import { apply, type Graph, type Value } from "../../src/ir/graph.ts";
import { fromNumbers, type TensorData } from "../../src/ir/tensor.ts";
import { noEpilogue } from "../../src/kernels/epilogue.ts";
import { patternOf, sparsePatternKernel } from "../../src/kernels/sparse_pattern.ts";
import { OPS } from "../../src/ops/index.ts";
import { constantValue, input } from "../../src/ops/source.ts";
import { type CompileOptions, compile } from "../../src/run/compile.ts";
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

/** The same with activations by rows: x (n, depth) to (n, rows). */
const byRows: readonly Case[] = [
  { name: "nothing follows", shape: [133, 60, 64, 0.1], tail: (y) => y },
  {
    name: "bias and rectifier, a deep operand",
    shape: [60, 300, 150, 0.05],
    tail: (y, rows) => op("Relu", op("Add", y, constantValue(random(3, rows)))),
  },
  { name: "a residual", shape: [50, 64, 128, 0.2], tail: (y, rows, n) => op("Add", y, constantValue(random(4, n, rows))) },
  { name: "much follows", shape: [96, 50, 70, 0.2], tail: (y) => op("Tanh", op("Add", op("Erf", y), op("Sigmoid", op("Mul", y, y)))) },
  { name: "few rows", shape: [200, 100, 5, 0.1], tail: (y) => op("Relu", y) },
];
const graphByRows = ({ shape: [rows, depth, n, density], tail }: Case): Graph => {
  const x = input("x", { dtype: "f32", shape: [n, depth] });
  return { inputs: [x], outputs: [{ name: "y", value: tail(op("MatMul", x, constantValue(pruned(depth, rows, density))), rows, n) }] };
};

/** Pixels of 20 channels to 24, by windows of 1×3. */
function convolution(): Graph {
  const x = input("x", { dtype: "f32", shape: [1, 20, 1, 40] });
  const weights = constantValue({ ...pruned(24, 60, 0.2), shape: [24, 20, 1, 3] });
  const [y] = apply(OPS.get("Conv")!, [x, weights, constantValue(random(6, 24))], { pads: [0, 1, 0, 1] }, "conv"); // it exists
  return { inputs: [x], outputs: [{ name: "y", value: op("Relu", y) }] };
}

describe.each(DEVICES)("$name", ({ open }) => {
  const device = useDevice(open);
  /** Networks that stay in the second-level cache have it for all operands; blocks are slow. */
  const near = () => {
    const rates = USUAL_RATES[device().target.name];
    return { sparse: "always", sparseRates: { ...rates, near: { ...rates, dense: { ...rates.dense, element: 1 } } } } as const;
  };
  const isCodeOf = async (graph: Graph, options: Omit<CompileOptions, "device">) => {
    const program = await compile(graph, { device: device(), ...options });
    const isCode = program.schedule.backend.sparse?.choices.map((c) => c.format === "code");
    program.free();
    return isCode;
  };

  test.each(byRows)("activations by rows: $name", async (one) => {
    const graph = graphByRows(one);
    await expectCompiledRight(graph, { x: random(5, one.shape[2], one.shape[1]) }, device(), one.name, true, near());
    expect(await isCodeOf(graph, near())).toEqual([device().name === "x86"]);
    expect(await isCodeOf(graph, { sparse: "always" })).toEqual([false]);
  });

  test("windows", async () => {
    await expectCompiledRight(convolution(), { x: random(7, 1, 20, 1, 40) }, device(), "windows", true, near());
    expect(await isCodeOf(convolution(), near())).toEqual([device().name === "x86"]);
  });

  test.each(cases)("$name", async (one) => {
    const graph = graphOf(one);
    const inputs = { x: random(5, one.shape[1], one.shape[2]) };
    await expectCompiledRight(graph, inputs, device(), one.name, false, { sparse: "always" });
    expect(await isCodeOf(graph, { sparse: "always" })).toEqual([device().name === "x86"]);
  });

  test.each([
    { what: "few nonzeros", shape: [64, 64, 16, 0.04], isCode: true },
    { what: "more, where code comes fast", shape: [128, 128, 8, 0.05], isCode: true },
    { what: "more, where it comes slowly", shape: [128, 128, 8, 0.05], fetched: 0.25, isCode: false },
    { what: "many columns, for which code comes anew", shape: [96, 96, 1024, 0.1], isCode: false },
    { what: "more than code pays for", shape: [256, 256, 64, 0.3], isCode: false },
  ] as const)("by predictions: $what", async ({ shape, isCode, ...slow }) => {
    const rates = USUAL_RATES[device().target.name];
    const graph = graphOf({ name: "", shape, tail: (y) => y });
    const sparseRates = { ...rates, code: { ...rates.code, ...slow } };
    expect(await isCodeOf(graph, { sparseRates })).toEqual([device().name === "x86" && isCode]);
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
