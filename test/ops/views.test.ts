// Views, gathering and resizing against values worked out by hand.
import { describe, expect, it } from "vitest";
import { loadReader } from "../../src/ir/expr_interpreter.ts";
import { type Attrs, apply, type Op } from "../../src/ir/graph.ts";
import { type Index, newVar, varIndex } from "../../src/ir/index_expr.ts";
import { elementCount, fromNumbers, type Shape, type TensorData, toNumbers } from "../../src/ir/tensor.ts";
import { evaluateNode, OPS } from "../../src/ops/index.ts";
import { constantValue, input } from "../../src/ops/source.ts";

const f = (shape: Shape, values: number[]): TensorData => fromNumbers("f32", shape, values);
const count = (...shape: number[]): TensorData => f(shape, [...Array(elementCount(shape)).keys()]);
const list = (...values: number[]): TensorData => fromNumbers("i64", [values.length], values);
const op = (name: string): Op => OPS.get(name)!;

/** The first input is known at run time only; the others are constants. */
function node(name: string, inputs: (TensorData | null)[], attrs: Attrs = {}) {
  const values = inputs.map((t, i) => t && (i === 0 ? input("x", t) : constantValue(t)));
  return apply(op(name), values, attrs)[0].node;
}
function run(name: string, inputs: (TensorData | null)[], attrs: Attrs = {}): { shape: Shape; values: number[] } {
  const [out] = evaluateNode(node(name, inputs, attrs), inputs);
  return { shape: out.shape, values: [...toNumbers(out)] };
}
const show = (name: string, inputs: (TensorData | null)[], attrs: Attrs = {}) => run(name, inputs, attrs).values;

describe("reshaping", () => {
  it("fills in 0 and -1", () => {
    expect(run("Reshape", [count(2, 3, 4), list(0, -1)]).shape).toEqual([2, 12]);
    expect(run("Reshape", [count(2, 3, 4), list(4, 6)]).values).toEqual([...Array(24).keys()]);
    expect(() => run("Reshape", [count(2, 3), list(4, -1)])).toThrow("Reshape: (2,3) cannot become (4,-1)");
    expect(() => run("Reshape", [count(2, 3), list(-1, -1)])).toThrow("-1 appears twice");
  });
  it("squeezes and unsqueezes", () => {
    expect(run("Squeeze", [count(1, 3, 1)]).shape).toEqual([3]);
    expect(run("Unsqueeze", [count(3, 2), list(-1, 0)]).shape).toEqual([1, 3, 2, 1]);
    expect(() => run("Squeeze", [count(2, 3), list(1)])).toThrow("Squeeze: axis 1 of (2,3) is 3, not 1");
  });
  it("transposes", () => {
    expect(run("Transpose", [count(2, 3)])).toEqual({ shape: [3, 2], values: [0, 3, 1, 4, 2, 5] });
    expect(() => run("Transpose", [count(2, 3)], { perm: [0, 0] })).toThrow("Transpose: perm (0,0) is not a permutation");
  });
});

describe("cutting and joining", () => {
  it("slices backwards", () => {
    expect(show("Slice", [count(5), list(-1), list(-100), list(0), list(-2)])).toEqual([4, 2, 0]);
    expect(run("Slice", [count(2, 4), list(3), list(1), list(1)]).shape).toEqual([2, 0]);
  });
  it("splits into parts that need not be equal", () => {
    const x = count(5);
    const parts = evaluateNode(node("Split", [x], { num_outputs: 2 }), [x]);
    expect(parts.map((p) => [...toNumbers(p)])).toEqual([
      [0, 1, 2],
      [3, 4],
    ]);
    expect(() => run("Split", [x, list(2, 2)])).toThrow("Split: parts (2,2) do not add up to the axis of 5");
  });
  it("joins more than two, skipping empty ones", () => {
    const parts = [f([1, 1], [1]), f([1, 0], []), f([1, 2], [2, 3]), f([1, 1], [4])];
    expect(show("Concat", parts, { axis: 1 })).toEqual([1, 2, 3, 4]);
    expect(() => run("Concat", [count(2, 3), count(3, 3)], { axis: 1 })).toThrow("Concat: shapes (2,3) and (3,3) differ outside of axis 1");
  });
});

describe("Pad", () => {
  it("knows all modes", () => {
    const x = f([3], [1, 2, 3]);
    expect(show("Pad", [x, list(1, 2), f([], [9])])).toEqual([9, 1, 2, 3, 9, 9]);
    expect(show("Pad", [x, list(2, 3)], { mode: "reflect" })).toEqual([3, 2, 1, 2, 3, 2, 1, 2]);
    expect(show("Pad", [x, list(2, 1)], { mode: "edge" })).toEqual([1, 1, 1, 2, 3, 3]);
    expect(show("Pad", [x, list(2, 4)], { mode: "wrap" })).toEqual([2, 3, 1, 2, 3, 1, 2, 3, 1]);
    expect(show("Pad", [x, list(-1, 1)])).toEqual([2, 3, 0]);
  });
});

describe("gathering and scattering", () => {
  it("counts negative places from the end", () => {
    expect(show("Gather", [count(3, 2), fromNumbers("i64", [2], [-1, 0])])).toEqual([4, 5, 0, 1]);
    const [x, at] = [count(3), fromNumbers("i64", [2], [-1, 1])];
    const live = apply(op("Gather"), [input("x", x), input("at", at)])[0].node;
    expect([...toNumbers(evaluateNode(live, [x, at])[0])]).toEqual([2, 1]);
  });
  it("adds what falls on the same place", () => {
    const inputs = [f([3], [1, 1, 1]), fromNumbers("i64", [3], [1, 1, -1]), f([3], [10, 20, 30])];
    expect(show("ScatterElements", inputs, { reduction: "add" })).toEqual([1, 31, 31]);
    expect(() => run("ScatterElements", [inputs[0], list(3), f([1], [0])])).toThrow("index 3 is outside of an axis of 3");
  });
  it("keeps 64-bit integers", () => {
    const x: TensorData = { dtype: "i64", shape: [2], data: BigInt64Array.of(2n ** 60n + 1n, 3n) };
    const u: TensorData = { dtype: "i64", shape: [1], data: BigInt64Array.of(2n ** 61n + 1n) };
    const inputs = [x, fromNumbers("i64", [1, 1], [1]), u];
    const [out] = evaluateNode(node("ScatterND", inputs, { reduction: "max" }), inputs);
    expect(out.data).toEqual(BigInt64Array.of(2n ** 60n + 1n, 2n ** 61n + 1n));
  });
});

describe("Resize", () => {
  const legacy = { coordinate_transformation_mode: "asymmetric", nearest_mode: "floor" };
  it("doubles by integer division", () => {
    const x = count(1, 1, 2, 2);
    const resize = node("Resize", [x, null, f([4], [1, 1, 2, 2])], legacy);
    expect([...toNumbers(evaluateNode(resize, [x, null, null])[0])]).toEqual([0, 0, 1, 1, 0, 0, 1, 1, 2, 2, 3, 3, 2, 2, 3, 3]);
    const seen: (readonly Index[])[] = [];
    const load = loadReader(x, 0);
    const at0 = (index: readonly Index[]) => {
      seen.push(index);
      return load.at(index);
    };
    const at = [1, 1, 4, 4].map((n) => varIndex(newVar(n)));
    op("Resize").lower!([{ ...load, at: at0 }, null, null], resize)[0].at(at);
    expect(seen[0][3].terms).toEqual([{ atom: { k: "div", a: at[3], by: 2 }, c: 1 }]);
  });
  it("interpolates between half pixels", () => {
    const x = f([1, 1, 1, 2], [0, 4]);
    expect(show("Resize", [x, null, null, list(1, 1, 1, 4)], { mode: "linear" })).toEqual([0, 1, 3, 4]);
    const aligned = { mode: "linear", coordinate_transformation_mode: "align_corners" };
    expect(show("Resize", [x, null, null, list(1, 1, 1, 5)], aligned)).toEqual([0, 1, 2, 3, 4]);
  });
  it("averages when it shrinks with antialias", () => {
    const x = f([4], [0, 0, 8, 8]);
    const [a, b] = show("Resize", [x, null, null, list(2)], { mode: "linear", antialias: 1 });
    expect([a, b]).toEqual([1, 7]);
  });
  it("fills outside of the region of interest", () => {
    const attrs = { mode: "nearest", coordinate_transformation_mode: "tf_crop_and_resize", extrapolation_value: 9 };
    expect(show("Resize", [f([3], [1, 2, 3]), f([2], [0, 1.5]), null, list(4)], attrs)).toEqual([1, 2, 3, 9]);
  });
  it("keeps the aspect ratio", () => {
    const attrs = { keep_aspect_ratio_policy: "not_larger" };
    expect(run("Resize", [count(1, 4, 8), null, null, list(6, 6)], { ...attrs, axes: [1, 2] }).shape).toEqual([1, 3, 6]);
  });
});

describe("generated values", () => {
  it("counts, and marks", () => {
    const bounds = [0, 2, 0.5].map((v) => f([], [v]));
    const range = apply(
      op("Range"),
      bounds.map((v) => constantValue(v)),
    )[0].node;
    expect([...toNumbers(evaluateNode(range, bounds)[0])]).toEqual([0, 0.5, 1, 1.5]);
    expect(show("OneHot", [fromNumbers("i64", [2], [1, -1]), list(3), f([2], [0, 5])])).toEqual([0, 5, 0, 0, 0, 5]);
    expect(show("Trilu", [count(2, 3)], { upper: 0 })).toEqual([0, 0, 0, 3, 4, 0]);
    expect(show("CumSum", [f([3], [1, 2, 3]), fromNumbers("i64", [], [0])], { reverse: 1, exclusive: 1 })).toEqual([5, 3, 0]);
  });
  it("folds shapes from types alone", () => {
    const x = input("x", { dtype: "f32", shape: [2, 3, 5] });
    const shape = apply(op("Shape"), [x], { start: 1 })[0].node;
    expect(op("Shape").fold!([x], shape.attrs)![0].data).toEqual(BigInt64Array.of(3n, 5n));
    expect(op("Size").fold!([x], {})![0].data).toEqual(BigInt64Array.of(30n));
  });
});
