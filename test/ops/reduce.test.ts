// Reductions against values worked out by hand.
import { expect, it } from "vitest";
import { type Attrs, apply, type Op } from "../../src/ir/graph.ts";
import { fromNumbers, type Shape, type TensorData, toNumbers } from "../../src/ir/tensor.ts";
import { evaluateNode, OPS } from "../../src/ops/index.ts";
import { constantValue, input } from "../../src/ops/source.ts";

const f = (shape: Shape, values: number[]): TensorData => fromNumbers("f32", shape, values);
const list = (...values: number[]): TensorData => fromNumbers("i64", [values.length], values);
const op = (name: string): Op => OPS.get(name)!;

/** The first input is known at run time only; the others are constants. */
function run(name: string, inputs: TensorData[], attrs: Attrs = {}): { shape: Shape; values: number[] } {
  const values = inputs.map((t, i) => (i === 0 ? input("x", t) : constantValue(t)));
  const [out] = evaluateNode(apply(op(name), values, attrs)[0].node, inputs);
  return { shape: out.shape, values: [...toNumbers(out)] };
}

const x = f([2, 3], [1, -2, 3, -4, 5, -6]);

it("reduces the axes asked for, and keeps them when asked", () => {
  expect(run("ReduceSum", [x, list(1)])).toEqual({ shape: [2, 1], values: [2, -5] });
  expect(run("ReduceSum", [x, list(-2)], { keepdims: 0 })).toEqual({ shape: [3], values: [-3, 3, -3] });
  expect(run("ReduceMean", [x], { keepdims: 0 })).toEqual({ shape: [], values: [-0.5] });
  expect(run("ReduceSum", [x, list(1, 0)], { keepdims: 0 })).toEqual({ shape: [], values: [-3] });
});

it("reduces nothing when there are no axes and noop_with_empty_axes is set", () => {
  expect(run("ReduceSum", [x, list()], { noop_with_empty_axes: 1 })).toEqual({ shape: [2, 3], values: [...toNumbers(x)] });
});

it("knows norms and extremes", () => {
  expect(run("ReduceL1", [x, list(1)]).values).toEqual([6, 15]);
  expect(run("ReduceMax", [x, list(0)]).values).toEqual([1, 5, 3]);
  expect(run("ReduceMin", [x]).values).toEqual([-6]);
  expect(run("ReduceProd", [x, list(1)]).values).toEqual([-6, 120]);
  expect(run("ReduceSumSquare", [x, list(1)]).values).toEqual([14, 77]);
});

it("takes the logarithm of a sum of large powers without overflow", () => {
  const [value] = run("ReduceLogSumExp", [f([3], [1000, 1000, 1000])]).values;
  expect(value).toBeCloseTo(1000 + Math.log(3), 3);
  expect(run("ReduceLogSumExp", [f([2], [Number.NEGATIVE_INFINITY, Number.NEGATIVE_INFINITY])]).values).toEqual([Number.NEGATIVE_INFINITY]);
});

it("gives the identity for an empty axis", () => {
  const empty = f([2, 0], []);
  expect(run("ReduceSum", [empty, list(1)]).values).toEqual([0, 0]);
  expect(run("ReduceProd", [empty, list(1)]).values).toEqual([1, 1]);
});

it("sums 64-bit integers exactly", () => {
  const big: TensorData = { dtype: "i64", shape: [3], data: BigInt64Array.of(2n ** 53n, 1n, 2n ** 53n) };
  const [out] = evaluateNode(apply(op("ReduceSum"), [input("x", big)])[0].node, [big]);
  expect(out.data).toEqual(BigInt64Array.of(2n ** 54n + 1n));
});

it("finds the first or the last extreme", () => {
  const y = f([2, 3], [1, 3, 3, 2, 0, 2]);
  expect(run("ArgMax", [y], { axis: 1 })).toEqual({ shape: [2, 1], values: [1, 0] });
  expect(run("ArgMax", [y], { axis: 1, select_last_index: 1, keepdims: 0 })).toEqual({ shape: [2], values: [2, 2] });
  expect(run("ArgMin", [y], { axis: -2, keepdims: 0 }).values).toEqual([0, 1, 1]);
});

it("says what is wrong with axes", () => {
  expect(() => run("ReduceSum", [x, list(2)])).toThrow("ReduceSum: axis 2 is outside of rank 2");
  expect(() => run("ReduceSum", [x, list(0, -2)])).toThrow("axes (0,-2) name one axis twice");
  expect(() => apply(op("ReduceSum"), [input("x", x), input("axes", { dtype: "i64", shape: [1] })])).toThrow(
    "ReduceSum: the list of axes is computed from data at run time",
  );
});
