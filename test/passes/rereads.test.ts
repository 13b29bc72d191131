// What kernels that wait for memory read again rather than write: 16-bit results, wider forms, views and masks.
import { describe, expect, it } from "vitest";
import { DTYPES } from "../../src/ir/dtype.ts";
import { type Graph, topologicalOrder, type Value } from "../../src/ir/graph.ts";
import { input } from "../../src/ops/source.ts";
import { cse } from "../../src/passes/cse.ts";
import { fuse } from "../../src/passes/fuse.ts";
import { lateWidening } from "../../src/passes/late_widening.ts";
import { checkGroups } from "./groups.ts";
import { anchors, difference, f32, graphOf, ints, op, show } from "./support.ts";

const bf16 = (name: string, ...shape: number[]): Value => input(name, { dtype: "bf16", shape });
const cast = (x: Value, to: "f32" | "bf16"): Value => op("Cast", [x], { to: DTYPES[to].onnx });
const add = (a: Value, b: Value) => op("Add", [a, b]);
const mul = (a: Value, b: Value) => op("Mul", [a, b]);

/** One line a node or group, without shapes. */
function groups(rereads: boolean, ...ys: Value[]): string[] {
  const before = graphOf(...ys);
  const result = fuse({ anchors, rereads }).run(before);
  checkGroups(result);
  expect(difference(before, result)).toBeLessThan(1e-6);
  return show(result).map((line) => line.split("(")[0]);
}

describe("fusion", () => {
  const product = op("MatMul", [bf16("a", 6, 8), bf16("b", 8, 10)]);
  const wide = cast(product, "f32");

  it("leaves a product's 16-bit result as it is, and all readers widen it", () => {
    const [sum, square] = [op("ReduceSum", [wide, ints(0)]), mul(wide, f32("c", 6, 10))];
    expect(groups(true, sum, square)).toEqual(["*MatMul", "Cast+ReduceSum", "Cast+Mul"]);
    expect(groups(false, sum, square)).toEqual(["*MatMul+Cast", "ReduceSum", "Mul"]);
  });
  it("goes on with the sum where more follows than the wider form", () => {
    expect(groups(true, add(wide, f32("c", 10)))).toEqual(["*MatMul+Cast+Add"]);
  });
  it("lets all readers of a part of it take their elements there", () => {
    const part = op("Slice", [product, ints(0, 0), ints(6, 9)]);
    const wider = cast(part, "f32");
    const [sum, square] = [op("ReduceSum", [wider, ints(0)]), mul(wider, f32("c", 6, 9))];
    expect(groups(true, sum, square)).toEqual(["*MatMul", "Slice+Cast+ReduceSum", "Slice+Cast+Mul"]);
  });
  it("makes a mask of few numbers again, and no other one", () => {
    const few = op("Equal", [f32("row", 40, 1), f32("column", 64)]);
    const [first, second] = ["c", "d"].map((name) => op("ReduceSum", [op("Where", [few, f32(name, 40, 64), f32("zero", 1)]), ints(1)]));
    expect(groups(true, first, second)).toEqual(["Equal+Where+ReduceSum", "Equal+Where+ReduceSum"]);
    expect(groups(false, first, second)).toEqual(["Equal", "Where+ReduceSum", "Where+ReduceSum"]);
    const many = op("Equal", [f32("row", 40, 64), f32("column", 64)]);
    const ends = ["c", "d"].map((name) => op("ReduceSum", [op("Where", [many, f32(name, 40, 64), f32("zero", 1)]), ints(1)]));
    expect(groups(true, ...ends)).toHaveLength(3);
  });
});

describe("late widening", () => {
  const widenedLate = (...ys: Value[]): { before: Graph; result: Graph } => {
    const before = graphOf(...ys);
    return { before, result: cse.run(lateWidening.run(before)) };
  };

  it("moves the 16-bit form", () => {
    const x = cast(bf16("x", 4, 6), "f32");
    const moved = op("Transpose", [op("Reshape", [x, ints(2, 2, 6)])], { perm: [2, 0, 1] });
    const { before, result } = widenedLate(mul(moved, f32("c", 6, 2, 2)));
    expect(show(result).map((line) => line.split("(")[0])).toEqual(["Reshape", "Transpose", "Cast", "Mul"]);
    expect(difference(before, result)).toBe(0);
  });
  it("sums the copy that a product reads, under another shape too", () => {
    const x = op("Relu", [f32("x", 2, 3, 8)]);
    const rows = op("Reshape", [x, ints(6, 8)]);
    const product = op("MatMul", [cast(rows, "bf16"), bf16("w", 8, 4)]);
    const copied = op("MatMul", [op("Reshape", [cast(x, "bf16"), ints(6, 8)]), bf16("w", 8, 4)]);
    const sum = op("ReduceSum", [rows, ints(0)]);
    for (const y of [product, copied]) {
      const { before, result } = widenedLate(y, sum);
      const [reduced] = topologicalOrder(result).filter((n) => n.op.name === "ReduceSum");
      expect(reduced.inputs[0]!.node.op.name).toBe("Cast");
      expect(difference(before, result)).toBeLessThan(2 ** -7); // bfloat16 has 8 bits
    }
  });
  it("leaves sums of what no product reads", () => {
    const x = op("Relu", [f32("x", 6, 8)]);
    const { before, result } = widenedLate(op("ReduceSum", [x, ints(0)]));
    expect(show(result)).toEqual(show(before));
  });
});
