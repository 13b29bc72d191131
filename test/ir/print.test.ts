// Graphs print the same text every time, and the text parses to the same graph.
import { describe, expect, it } from "vitest";
import { apply, type Graph, type Op } from "../../src/ir/graph.ts";
import { makeGroup } from "../../src/ir/group.ts";
import { parseGraph } from "../../src/ir/parse.ts";
import { printGraph } from "../../src/ir/print.ts";
import { fromNumbers } from "../../src/ir/tensor.ts";
import { verifyGraph } from "../../src/ir/verify.ts";
import { evaluateGraph, OPS } from "../../src/ops/index.ts";
import { Constant, constantValue, Input, input } from "../../src/ops/source.ts";

const table: ReadonlyMap<string, Op> = new Map([...OPS, ["Input", Input], ["Constant", Constant]]);
const op = (name: string): Op => OPS.get(name)!;

function sample(): Graph {
  const x = input("x", { dtype: "f32", shape: [2, 6] });
  const w = constantValue(fromNumbers("f32", [3], [0.1, -0, Number.NaN]), "w");
  const [a, b] = apply(op("Split"), [x], { axis: 1, num_outputs: 2 }, "split it");
  const y = apply(op("Clip"), [apply(op("Add"), [a, w], {}, "sum")[0], null, constantValue(fromNumbers("f32", [], [6]))], {}, "a // b")[0];
  const z = apply(op("Transpose"), [b], { perm: [1, 0] }, '"quoted"\nname')[0];
  return { inputs: [x], outputs: [{ name: "y", value: y }, { name: "z z", value: z }] }; // biome-ignore format: one idea
}

function grouped(): Graph {
  const x = input("x", { dtype: "f32", shape: [2, 3] });
  const inner = input("0", { dtype: "f32", shape: [2, 3] });
  const sum = apply(op("ReduceSum"), [inner], {}, "sum")[0];
  const root = apply(op("Sqrt"), [sum], {}, "root")[0];
  const body: Graph = { inputs: [inner], outputs: [{ name: "out", value: root }] };
  const group = makeGroup([x], { body, anchor: sum.node }, "sum + root");
  return { inputs: [x], outputs: [{ name: "y", value: group.outputs[0] }] };
}

describe("text of graphs", () => {
  it("is one line a node", () => {
    expect(printGraph(sample())).toBe(`%0 = Input {name="x", type=f32[2,6]} : f32[2,6] // x
%1, %2 = Split %0 {axis=1, num_outputs=2} : f32[2,3], f32[2,3] // split it
%3 = Constant {value=f32[3](0.1, -0, nan)} : f32[3] // w
%4 = Add %1, %3 : f32[2,3] // sum
%5 = Constant {value=f32[](6)} : f32[]
%6 = Clip %4, _, %5 : f32[2,3] // a // b
%7 = Transpose %2 {perm=[1, 0]} : f32[3,2] // "\\"quoted\\"\\nname"
return "y" = %6, "z z" = %7
`);
  });
  it("nests groups", () => {
    expect(printGraph(grouped())).toBe(`%0 = Input {name="x", type=f32[2,3]} : f32[2,3] // x
%4 = Group %0 {body={
  %1 = Input {name="0", type=f32[2,3]} : f32[2,3] // 0
  %2 = ReduceSum %1 {keepdims=1, noop_with_empty_axes=0} : f32[1,1] // sum
  %3 = Sqrt %2 : f32[1,1] // root
  return "out" = %3
}, anchor=&%2} : f32[1,1] // sum + root
return "y" = %4
`);
  });
  it.each([
    ["plain", sample()],
    ["grouped", grouped()],
  ])("parses back: %s", (_, graph) => {
    // biome-ignore format: a table
    const text = printGraph(graph);
    const again = parseGraph(text, table);
    verifyGraph(again);
    expect(printGraph(again)).toBe(text);
    const { shape } = graph.inputs[0].type;
    const x = fromNumbers(
      "f32",
      shape,
      Array.from({ length: shape[0] * shape[1] }, (_, i) => i),
    );
    expect(evaluateGraph(again, { x })).toEqual(evaluateGraph(graph, { x }));
  });
  it("keeps all element types, and data of large constants on request", () => {
    const kinds = ["f32", "f64", "f16", "bf16", "i8", "u8", "i16", "u16", "i32", "u32", "i64", "u64", "bool"] as const;
    const values = kinds.flatMap((t) =>
      [2, 9000].map((n) =>
        constantValue(
          fromNumbers(
            t,
            [n],
            Array.from({ length: n }, (_, i) => (i + 1) % 97),
          ),
        ),
      ),
    );
    const graph: Graph = { inputs: [], outputs: values.map((value, i) => ({ name: `${i}`, value })) };
    const text = printGraph(graph, { data: true });
    const again = parseGraph(text, table);
    expect(printGraph(again, { data: true })).toBe(text);
    expect(again.outputs.map((o) => o.value.node.attrs)).toEqual(values.map((v) => v.node.attrs));
    expect(() => parseGraph(printGraph(graph), table)).toThrow(/line \d+: the data of this constant was left out/);
  });
  it("says where text is wrong", () => {
    expect(() => parseGraph("%0 = Sqrt %9 : f32[2]\nreturn", table)).toThrow("graph text, line 1: %9 is not defined above");
    expect(() => parseGraph("%0 = Nope : f32[2]\nreturn", table)).toThrow("there is no operator Nope");
    expect(() => parseGraph("%0 = Input {name=} : f32[2]", table)).toThrow("line 1: wanted a value");
    expect(() => parseGraph("%0 = Input : f32[2]\n%0 = Input : f32[2]", table)).toThrow("%0 is defined twice");
  });
});
