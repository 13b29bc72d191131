// verifyGraph finds every kind of broken graph.
import { describe, expect, it } from "vitest";
import { apply, type Graph, makeNode, type Node, type Op, type Value } from "../../src/ir/graph.ts";
import { makeGroup } from "../../src/ir/group.ts";
import { verifyGraph } from "../../src/ir/verify.ts";
import { OPS } from "../../src/ops/index.ts";
import { input } from "../../src/ops/source.ts";

const op = (name: string): Op => OPS.get(name)!;
const f32 = (...shape: number[]) => ({ dtype: "f32" as const, shape });
const graphOf = (inputs: readonly Value[], ...values: Value[]): Graph => ({
  inputs,
  outputs: values.map((value, i) => ({ name: `y${i}`, value })),
});

describe("verifyGraph", () => {
  const x = input("x", f32(2, 3));
  it("accepts a right graph", () => {
    expect(() => verifyGraph(graphOf([x], apply(op("Sqrt"), [x])[0]))).not.toThrow();
  });
  it("finds wrong types, and names the pass", () => {
    const node = makeNode(op("Sqrt"), [x], {}, [f32(3, 2)], "root");
    expect(() => verifyGraph(graphOf([x], node.outputs[0]), "fuse")).toThrow(
      "after fuse: Sqrt has the type f32[3,2], its operator infers f32[2,3]; from root",
    );
  });
  it("finds cycles", () => {
    const inputs: Value[] = [];
    const node: Node = makeNode(op("Sqrt"), inputs, {}, [f32(2, 3)], "loop");
    inputs.push(node.outputs[0]);
    expect(() => verifyGraph(graphOf([], node.outputs[0]))).toThrow("Sqrt depends on its own output; from loop");
  });
  it("finds inputs that are not the graph's, and names used twice", () => {
    expect(() => verifyGraph(graphOf([], apply(op("Sqrt"), [x])[0]))).toThrow("Input is used but is no input of its graph; from x");
    const twice = { inputs: [x], outputs: [{ name: "y", value: x }, { name: "y", value: x }] }; // biome-ignore format: one idea
    expect(() => verifyGraph(twice)).toThrow("output y: the name is used twice");
    expect(() => verifyGraph(graphOf([x, x], x))).toThrow("Input is a graph input twice");
  });
  it("finds missing attributes and foreign outputs", () => {
    const cast = makeNode(op("Cast"), [x], {}, [f32(2, 3)], "cast");
    expect(() => verifyGraph(graphOf([x], cast.outputs[0]))).toThrow("Cast lacks attribute to; from cast");
    const root = apply(op("Sqrt"), [x])[0];
    expect(() => verifyGraph(graphOf([x], { ...root, index: 1 }))).toThrow("uses a value that Sqrt does not have");
  });
  it("looks into groups", () => {
    const inner = input("0", f32(2, 3));
    const sum = apply(op("ReduceSum"), [inner], {}, "sum")[0];
    const body = graphOf([inner], apply(op("Sqrt"), [sum], {}, "root")[0]);
    const group = (inputs: Value[], anchor: Node | null, of = body) =>
      graphOf([x], makeGroup(inputs, { body: of, anchor }, "g").outputs[0]);
    expect(() => verifyGraph(group([x], sum.node))).not.toThrow();
    expect(() => verifyGraph(group([], null))).toThrow("Group has 0 inputs, its body 1; from g");
    expect(() => verifyGraph(group([x], x.node))).toThrow("Group has an anchor (Input) that is not in its body; from g");
    expect(() => verifyGraph(group([x], body.outputs[0].value.node))).toThrow("anchor (Sqrt) with the input ReduceSum");
    const leak = graphOf([inner], apply(op("Add"), [inner, x])[0]);
    expect(() => verifyGraph(group([x], null, leak))).toThrow("in the group from g: Input is used but is no input of its graph; from x");
  });
});
