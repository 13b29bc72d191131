// What pass tests share: building small graphs by operator name, printing them, and running before against after.
import { expect } from "vitest";
import { type Attrs, apply, type Graph, type Node, type Pass, topologicalOrder, type Value } from "../../src/ir/graph.ts";
import { Group, groupAttrs } from "../../src/ir/group.ts";
import { elementCount, fromNumbers, type Shape, type TensorData, toNumbers } from "../../src/ir/tensor.ts";
import { evaluateGraph, OPS } from "../../src/ops/index.ts";
import { constantOf, constantValue, Input, input, inputName } from "../../src/ops/source.ts";

/** First output of an operator. */
export const op = (name: string, inputs: (Value | null)[], attrs: Attrs = {}): Value => apply(OPS.get(name)!, inputs, attrs, name)[0];
export const f32 = (name: string, ...shape: number[]): Value => input(name, { dtype: "f32", shape });
export const ints = (...values: number[]): Value => constantValue(fromNumbers("i64", [values.length], values));
export const scalar = (value: number): Value => constantValue(fromNumbers("f32", [], [value]));

const ANCHORS = new Set(["Softmax", "LayerNormalization", "MaxPool", "AveragePool"]);
/** Nodes with hand-scheduled kernels. */
export const anchors = (node: Node): boolean => node.op.kind === "contract" || ANCHORS.has(node.op.name);

/** Numbers in [-1, 1) that are the same in every run. */
export function noise(count: number, seed: number): Float64Array {
  let state = (seed * 2654435761 + 12345) >>> 0;
  return Float64Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 31 - 1;
  });
}
export const weights = (seed: number, ...shape: number[]): Value =>
  constantValue(fromNumbers("f32", shape, noise(elementCount(shape), seed)));

/** A graph of the values; its inputs are found from them. */
export function graphOf(...values: Value[]): Graph {
  const outputs = values.map((value, i) => ({ name: `y${i}`, value }));
  const inputs = topologicalOrder({ inputs: [], outputs }).flatMap((n) => (n.op === Input ? n.outputs : []));
  return { inputs, outputs };
}

/** One line a node: operator, operands (constants as numbers or types), attributes that differ from their defaults. */
export function show(graph: Graph): string[] {
  const names = new Map<Value, string>();
  const lines: string[] = [];
  for (const node of topologicalOrder(graph)) {
    if (node.op === Input) names.set(node.outputs[0], inputName(node.outputs[0]));
    const tensor = constantOf(node.outputs[0]);
    if (tensor) names.set(node.outputs[0], showTensor(tensor));
    if (node.op.kind === "source") continue;
    for (const [i, o] of node.outputs.entries()) names.set(o, node.outputs.length > 1 ? `%${lines.length}.${i}` : `%${lines.length}`);
    const operands = node.inputs.map((v) => (v ? names.get(v) : "-"));
    lines.push(`${showName(node)}(${operands.join(", ")})${showAttrs(node)} : ${node.outputs[0].type.shape.join("x")}`);
  }
  return lines;
}

const showTensor = (t: TensorData): string =>
  t.data.length <= 8 ? `[${[...toNumbers(t)].map((v) => Number(v.toPrecision(4)))}]` : `${t.dtype}[${t.shape}]`;

function showName(node: Node): string {
  if (node.op !== Group) return node.op.name;
  const { body, anchor } = groupAttrs(node);
  const inner = topologicalOrder(body).filter((n) => n.op.kind !== "source");
  return inner.map((n) => (n === anchor ? `*${n.op.name}` : n.op.name)).join("+");
}

function showAttrs(node: Node): string {
  if (node.op === Group) return "";
  const own = Object.entries(node.attrs).filter(([name, v]) => v !== undefined && `${v}` !== `${node.op.attrs[name]?.default}`);
  return own.length > 0 ? `{${own.map(([name, v]) => `${name}=${v}`).join(" ")}}` : "";
}

/** Random inputs for a graph. */
export const randomInputs = (graph: Graph, seed = 1): Record<string, TensorData> =>
  Object.fromEntries(
    graph.inputs.map((v, i) => [
      inputName(v),
      fromNumbers(v.type.dtype, v.type.shape as Shape, noise(elementCount(v.type.shape), seed + i)),
    ]),
  );

/** Largest difference over all outputs, relative to the largest value of each. */
export function difference(before: Graph, after: Graph, seed = 1): number {
  const inputs = randomInputs(before, seed);
  const [a, b] = [before, after].map((graph) => evaluateGraph(graph, inputs));
  let most = 0;
  for (const [name, x] of Object.entries(a)) {
    expect(b[name].shape).toEqual(x.shape);
    expect(b[name].dtype).toBe(x.dtype);
    const [p, q] = [toNumbers(x), toNumbers(b[name])];
    const scale = p.reduce((m, v) => Math.max(m, Math.abs(v)), 1e-3);
    for (let i = 0; i < p.length; i++) most = Math.max(most, Math.abs(p[i] - q[i]) / scale);
  }
  return most;
}

/** Runs passes over a graph, checks that results stay (float32 rounding, some terms in another order), and gives the text. */
export function textAfter(graph: Graph, ...passes: Pass[]): string[] {
  const result = passes.reduce((g, pass) => pass.run(g), graph);
  expect(difference(graph, result)).toBeLessThan(2e-6);
  return show(result);
}
