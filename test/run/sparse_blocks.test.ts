// Layers whose zeros lie in blocks, compiled for every device: which kernels they get, and what these compute, against float64.
import { afterAll, describe, expect, test } from "vitest";
import { openDevice } from "../../src/devices/open.ts";
import { type AttrValue, apply, type Graph, type Value } from "../../src/ir/graph.ts";
import { fromNumbers, type TensorData } from "../../src/ir/tensor.ts";
import { OPS } from "../../src/ops/index.ts";
import { constantValue, input } from "../../src/ops/source.ts";
import { type CompileOptions, compile } from "../../src/run/compile.ts";
import { USUAL_RATES } from "../../src/run/implement/sparse_cost.ts";
import type { Program } from "../../src/run/program.ts";
import { DEVICES, expectCompiledRight, randomNumbers, useDevice } from "./devices.ts";

const op = (name: string, inputs: Value[], attrs: Readonly<Record<string, AttrValue>> = {}): Value =>
  apply(OPS.get(name)!, inputs, attrs, name)[0]; // the test names operators that exist
const count = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);
const dense = (seed: number, ...shape: number[]): TensorData => fromNumbers("f32", shape, randomNumbers(seed, count(shape)));

/** (outputs, inputs, taps…): blocks of outputs by inputs at one tap are there or not. */
function blocks(shape: readonly number[], block: number, density: number): TensorData {
  const [rows, channels, ...kernel] = shape;
  const taps = count(kernel);
  const [across, down] = [Math.ceil(channels / block), Math.ceil(rows / block)];
  const keep = randomNumbers(7, across * down * taps);
  const isKept = (row: number, channel: number, tap: number): boolean =>
    (keep[(Math.floor(row / block) * across + Math.floor(channel / block)) * taps + tap] + 1) / 2 < density;
  const values = randomNumbers(3, count(shape)).map((v, i) => {
    const at = Math.floor(i / taps);
    return isKept(Math.floor(at / channels), at % channels, i % taps) ? v : 0;
  });
  return fromNumbers("f32", shape, values);
}

const x = (...shape: number[]): Value => input("x", { dtype: "f32", shape });
const graphOf = (from: Value, value: Value): Graph => ({ inputs: [from], outputs: [{ name: "out", value }] });

/** Rows times transposed weights, plus a bias, and an activation. */
function linear(n: number, rows: number, depth: number, block: number, density: number, activation = "Relu"): Graph {
  const from = x(n, depth);
  const w = op("Transpose", [constantValue(blocks([rows, depth], block, density))], { perm: [1, 0] });
  return graphOf(from, op(activation, [op("Add", [op("MatMul", [from, w]), constantValue(dense(5, rows))])]));
}
/** A convolution with a bias, and a residual after it. */
function conv(image: number[], weights: number[], block: number, density: number, attrs: Readonly<Record<string, AttrValue>> = {}): Graph {
  const from = x(...image);
  const y = op("Conv", [from, constantValue(blocks(weights, block, density)), constantValue(dense(5, weights[0]))], attrs);
  return graphOf(from, op("Relu", [op("Add", [y, constantValue(dense(6, ...y.type.shape))])]));
}

const PADDED = { pads: [1, 1, 1, 1] };
const cases: Readonly<Record<string, Graph>> = {
  "blocks of 16": linear(37, 96, 80, 16, 0.2),
  "blocks of 32": linear(50, 128, 96, 32, 0.2),
  "blocks of 8": linear(21, 64, 64, 8, 0.1),
  "ragged edges: 70 outputs, 45 inputs": linear(33, 70, 45, 16, 0.3),
  "fewer outputs than a block, none zero": linear(40, 13, 64, 16, 1),
  "few rows": linear(3, 96, 80, 16, 0.2),
  "pixels a power of two apart": linear(40, 64, 512, 16, 0.1),
  "a row": linear(1, 160, 96, 16, 0.2),
  "a row, ragged edges": linear(1, 70, 45, 16, 0.3),
  "a long activation": linear(35, 64, 128, 16, 0.2, "Sigmoid"),
  "1×1 windows, residual": conv([2, 40, 5, 13], [72, 40, 1, 1], 16, 0.3),
  "3×3": conv([1, 32, 9, 11], [48, 32, 3, 3], 16, 0.15, PADDED),
  "3×3, stride 2, few channels": conv([2, 5, 13, 9], [32, 5, 3, 3], 16, 0.5, { ...PADDED, strides: [2, 2] }),
};

const formats = (program: Program): string[] =>
  (program.schedule.backend.sparse?.choices ?? []).map(({ isSparse, format = "csb" }) => (isSparse ? format : "dense"));

describe.each(DEVICES)("$name", ({ open }) => {
  const device = useDevice(open);

  test.each(Object.keys(cases))("%s", async (name) => {
    const graph = cases[name];
    const inputs = { x: dense(4, ...graph.inputs[0].type.shape) };
    for (const isSeparate of [false, true]) await expectCompiledRight(graph, inputs, device(), name, isSeparate, { sparse: "always" });
    const program = await compile(graph, { device: device(), sparse: "always", sparseRates: USUAL_RATES[device().target.name] });
    const hasKernel = device().target.name !== "wasm" || !name.startsWith("a row"); // whose sums would wait for each other there
    expect(formats(program)).toEqual([hasKernel ? expect.stringMatching(/^BSR \d+x\d+$/) : "csb"]);
    program.free();
  });
});

const device = await openDevice({ threads: 1 });
afterAll(() => device.close());
async function chosen(graph: Graph, sparse: CompileOptions["sparse"] = "auto"): Promise<string[]> {
  const program = await compile(graph, { device, sparse, sparseRates: USUAL_RATES[device.target.name] });
  const all = formats(program);
  program.free();
  return all;
}

describe("what is chosen", () => {
  const { lanes } = device.target;
  test("blocks where zeros lie in blocks, as large as they are", async () => {
    expect(await chosen(linear(256, 512, 512, lanes, 0.1))).toEqual([expect.stringMatching(`^BSR ${lanes}x`)]);
    expect(await chosen(linear(256, 512, 512, 2 * lanes, 0.1))).toEqual([expect.stringMatching(`^BSR ${2 * lanes}x`)]);
  });
  test("half of the blocks are enough, and the same with --sparse always", async () => {
    for (const mode of ["auto", "always"] as const)
      expect(await chosen(linear(256, 512, 512, 2 * lanes, 0.5), mode)).toEqual([expect.stringMatching(/^BSR/)]);
  });
  test("a single row, too", async () => {
    expect(await chosen(linear(1, 1024, 512, lanes, 0.2))).toEqual([expect.stringMatching(`^BSR ${lanes}x`)]);
    expect(await chosen(linear(1, 1024, 512, 1, 0.2))).toEqual(["csb"]);
  });
  test("nonzeros at random places stay single", async () => expect(await chosen(linear(256, 512, 512, 1, 0.1))).toEqual(["csb"]));
  test("not where dense kernels are asked for, nor for layers that are too small", async () => {
    expect(await chosen(linear(256, 512, 512, 16, 0.1), "never")).toEqual([]);
    expect(await chosen(linear(8, 32, 32, 16, 0.3))).toEqual(["dense"]);
  });
});

test("any number of threads gives the same bits", async () => {
  const graph = linear(45, 70, 130, 16, 0.3);
  const inputs = { x: dense(9, 45, 130) };
  const results: unknown[] = [];
  for (const threads of [1, 2, 3]) {
    const own = await openDevice({ threads });
    const program = await compile(graph, { device: own, sparse: "always" });
    expect(formats(program)).toEqual([expect.stringMatching(/^BSR/)]);
    results.push((await program.run(inputs)).out.data);
    program.free();
    own.close();
  }
  expect(results[1]).toEqual(results[0]);
  expect(results[2]).toEqual(results[0]);
});
