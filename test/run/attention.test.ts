// Attention on CPUs: one kernel where the pass finds it, which agrees with float64 and with products around a softmax, whatever the sizes, masks and scores.
import { describe, expect, test } from "vitest";
import { apply, type Graph, type Value } from "../../src/ir/graph.ts";
import { elementCount, fromNumbers, type TensorData, toNumbers } from "../../src/ir/tensor.ts";
import { evaluateGraph, OPS } from "../../src/ops/index.ts";
import { input, inputName } from "../../src/ops/source.ts";
import { compile } from "../../src/run/compile.ts";
import { ATTENTIONS, graphOf } from "../passes/attention_graphs.ts";
import { DEVICES, expectClose, randomNumbers, useDevice } from "./devices.ts";

interface Case {
  /** Batch, heads of keys, heads of queries for each, queries, keys, columns of keys and of values. */
  readonly sizes: readonly [number, number, number, number, number, number, number];
  readonly attrs?: Readonly<Record<string, number>>;
  readonly seen?: readonly number[];
  readonly bias?: readonly number[];
  /** Of random queries. */
  readonly large?: number;
  /** Heads of keys and of values that are copied before. */
  readonly copies?: number;
  /** Replaces numbers of the bias. */
  readonly biasOf?: (i: number, x: number) => number;
  readonly seenOf?: (i: number, x: number) => number;
}

const INFINITE = Number.NEGATIVE_INFINITY;
const CASES: readonly (readonly [name: string, Case])[] = [
  ["one of everything", { sizes: [1, 1, 1, 1, 1, 1, 1] }],
  ["ragged", { sizes: [2, 3, 1, 37, 53, 7, 5], attrs: { scale: 0.4 } }],
  ["several blocks", { sizes: [1, 2, 1, 70, 517, 24, 20], attrs: { scale: 0.2 } }],
  ["causal", { sizes: [1, 2, 1, 150, 300, 12, 12], attrs: { before: 150 } }],
  ["causal from the first key", { sizes: [2, 1, 1, 333, 333, 8, 8], attrs: { before: 0 } }],
  ["causal with fewer keys", { sizes: [1, 1, 1, 90, 41, 8, 8], attrs: { before: 3 } }],
  ["capped", { sizes: [1, 1, 1, 20, 30, 8, 8], attrs: { cap: 1.5, scale: 2 } }],
  ["groups of heads", { sizes: [2, 2, 3, 19, 33, 16, 9], attrs: { before: 14 } }],
  ["everything at once", { sizes: [2, 2, 2, 45, 270, 9, 6], attrs: { before: 225, cap: 3, hidden: -1e4, scale: 0.7 }, seen: [2, 1, 45, 270], bias: [1, 4, 45, 270] }],
  ["a bias of keys", { sizes: [2, 2, 1, 33, 40, 8, 8], bias: [2, 1, 1, 40] }],
  ["a bias of queries", { sizes: [2, 2, 1, 33, 40, 8, 8], bias: [2, 2, 33, 1] }],
  ["masks of queries", { sizes: [2, 2, 1, 33, 40, 8, 8], attrs: { hidden: -5 }, seen: [1, 1, 33, 1] }],
  ["rows without a key are NaN", { sizes: [1, 2, 1, 40, 300, 8, 8], seen: [1, 1, 40, 300], seenOf: (i, x) => (i < 900 ? 0 : x) }],
  ["the first keys are hidden", { sizes: [1, 1, 1, 40, 400, 8, 8], bias: [1, 1, 1, 400], biasOf: (i, x) => (i < 390 ? INFINITE : x) }],
  ["rows of a low number are means", { sizes: [1, 2, 1, 40, 300, 8, 8], attrs: { hidden: -1e9 }, seen: [1, 1, 1, 300], seenOf: () => 0 }],
  ["rows of the least number are means", { sizes: [1, 1, 1, 40, 300, 8, 8], bias: [1, 1, 40, 300], biasOf: () => -3.4028234663852886e38 }],
  ["a NaN in a mask", { sizes: [1, 1, 1, 40, 300, 8, 8], bias: [1, 1, 40, 300], biasOf: (i, x) => (i === 1000 ? Number.NaN : x) }],
  ["infinities in a mask", { sizes: [1, 1, 1, 40, 300, 8, 8], bias: [1, 1, 40, 300], biasOf: (i, x) => (i % 700 === 5 ? -INFINITE : i % 3 === 0 ? INFINITE : x) }],
  ["few queries", { sizes: [2, 3, 1, 2, 53, 7, 21], attrs: { scale: 0.4 } }],
  ["one query of each head", { sizes: [2, 2, 2, 1, 300, 64, 64], bias: [2, 4, 1, 300], attrs: { before: 220, cap: 2 } }],
  ["few queries, masks and places", { sizes: [1, 2, 1, 2, 61, 9, 6], seen: [1, 2, 2, 61], bias: [1, 1, 2, 1], attrs: { before: 50, hidden: -3 } }],
  ["a single query without a key is NaN", { sizes: [1, 2, 1, 1, 40, 8, 8], seen: [1, 2, 1, 40], seenOf: (i, x) => (i < 40 ? 0 : x) }],
  ["heads far apart", { sizes: [2, 4, 2, 40, 45, 128, 64], attrs: { before: 5 }, copies: 1 }],
  ["keys and values far apart", { sizes: [1, 8, 1, 40, 45, 64, 64], copies: 2 }],
  ["large scores", { sizes: [1, 2, 1, 40, 300, 16, 8], large: 300 }],
]; // biome-ignore format: a table

function nodeOf({ sizes, attrs = {}, seen, bias, large = 1, biasOf, seenOf }: Case): {
  readonly graph: Graph;
  readonly data: Record<string, TensorData>;
} {
  const [batch, heads, group, queries, keys, depth, width] = sizes;
  const shapes = [[batch, queries, heads * group, depth], [batch, keys, heads, depth], [batch, keys, heads, width], seen, bias]; // biome-ignore format: a line
  const data: Record<string, TensorData> = {};
  const values = shapes.map((shape, i): Value | null => {
    if (!shape) return null;
    const dtype = i === 3 ? "bool" : "f32";
    const name = `in${i}`;
    const numbers = randomNumbers(i + 1, shape.reduce((n, d) => n * d, 1)); // biome-ignore format: one idea
    const change =
      i === 3 ? (seenOf ?? ((_, x) => x)) : i === 4 ? (biasOf ?? ((_, x) => x)) : (_: number, x: number) => (i === 0 ? large * x : x);
    data[name] = fromNumbers(dtype, [...shape], numbers.map((x, e) => change(e, i === 3 ? Number(x > -0.5) : x))); // biome-ignore format: one idea
    return input(name, { dtype, shape });
  });
  const [value] = apply(OPS.get("MaskedAttention")!, values, attrs, "attention");
  return { graph: { inputs: values.filter((v) => v !== null), outputs: [{ name: "y", value }] }, data };
}

const TOLERANCE = 2e-5;

describe.each(DEVICES)("$name", ({ open, guardPages }) => {
  const device = useDevice(open);

  async function agrees(graph: Graph, data: Readonly<Record<string, TensorData>>, kernels: number): Promise<readonly string[]> {
    const want = evaluateGraph(graph, data);
    const program = await compile(graph, { device: device(), separateTensors: guardPages });
    try {
      const own = program.schedule.steps.filter(({ node }) => node.op.name === "MaskedAttention");
      expect(own.map(({ calls }) => calls?.length)).toEqual([kernels]);
      const got = await program.run(data);
      for (const [name, tensor] of Object.entries(want)) expectClose(got[name], tensor, name, TOLERANCE);
      return program.schedule.steps.filter((step) => !own.includes(step)).map(({ node }) => node.op.name);
    } finally {
      program.free();
    }
  }

  test.each(CASES)("%s", async (name, given) => {
    const { graph, data } = nodeOf(given);
    await agrees(graph, data, 1 + (given.copies ?? 0));
    const want = toNumbers(evaluateGraph(graph, data).y);
    expect(want.some(Number.isNaN)).toBe(name.includes("NaN") || name.startsWith("infinities"));
  });

  test.each(ATTENTIONS)("as files have it: %s", async (name, y) => {
    const { graph, data } = graphOf(y);
    const others = await agrees(graph, data, 1);
    // What only moves heads is seen through.
    if (name === "packed" || name === "scaled" || name === "capped") expect(others).toEqual([]);
  });

  const floats = (name: string, ...shape: number[]): Value => input(name, { dtype: "f32", shape });
  const packed = [floats("all", 2, 20, 9, 8)];
  const grouped = [floats("q", 1, 4, 20, 8), floats("k", 1, 2, 33, 8), floats("v", 1, 2, 33, 8)];
  test.each([
    ["a layer's, of one tensor", "HeadAttention", packed, { causal: 1, scale: 0.4 }, []],
    ["ONNX's Attention, whose heads come before places", "Attention", grouped, { is_causal: 1 }, ["Group"]],
  ] as const)("%s", async (_, op, inputs, attrs, others) => {
    const [value] = apply(OPS.get(op)!, inputs, attrs, "attention"); // of the table
    const data = inputs.map((x, i) => [inputName(x), fromNumbers("f32", x.type.shape, randomNumbers(i + 1, elementCount(x.type.shape)))]);
    expect(await agrees({ inputs, outputs: [{ name: "y", value }] }, Object.fromEntries(data), 1)).toEqual(others);
  });

  test("few queries get a line each, many queries of few keys stay products", async () => {
    const kernelsOf = async (given: Case): Promise<readonly string[]> => {
      const program = await compile(nodeOf(given).graph, { device: device() });
      const names = program.kernels().map(({ kernel }) => kernel.name);
      program.free();
      return names;
    };
    expect(await kernelsOf({ sizes: [1, 2, 2, 1, 30, 8, 8] })).toEqual([expect.stringMatching(/^MaskedAttention_\d+_rows$/)]);
    expect(await kernelsOf({ sizes: [1, 2, 1, 30, 30, 8, 8] })).toEqual([expect.stringMatching(/^MaskedAttention_\d+$/)]);
    const tall = await kernelsOf({ sizes: [1, 2, 1, 300, 4, 64, 64] });
    expect(tall.some((name) => name.startsWith("MaskedAttention"))).toBe(device().target.lanes === 16);
  });
});

const ISAS = [...new Set(DEVICES.map(({ name }) => name.split(",")[0]))];

test.each(ISAS)("%s: results do not depend on the number of threads", async (isa) => {
  const results: TensorData[][] = [];
  for (const { open } of DEVICES.filter(({ name }) => name.startsWith(`${isa},`))) {
    const device = await open();
    const own: TensorData[] = [];
    for (const name of ["several blocks", "causal", "causal from the first key", "groups of heads", "one query of each head"]) {
      const { graph, data } = nodeOf(CASES.find(([other]) => other === name)![1]); // of the table
      const program = await compile(graph, { device });
      own.push((await program.run(data)).y);
      program.free();
    }
    device.close();
    results.push(own);
  }
  expect(results).toHaveLength(2);
  expect(results[1]).toEqual(results[0]);
});
