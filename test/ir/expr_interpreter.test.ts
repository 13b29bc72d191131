// The expression interpreter: integer widths, hoisting out of loops, and shared sub-expressions.
import { expect, it } from "vitest";
import type { DType } from "../../src/ir/dtype.ts";
import { call, cast, constant, type Expr, reduce, select, within } from "../../src/ir/expr.ts";
import { interpret, loadReader } from "../../src/ir/expr_interpreter.ts";
import { addIndex, clampIndex, type Index, modIndex, newVar, valueIndex, varIndex } from "../../src/ir/index_expr.ts";
import { fromNumbers, type Shape, type TensorData, toNumbers } from "../../src/ir/tensor.ts";

const compute = (dtype: DType, shape: Shape, at: (index: readonly Index[]) => Expr, inputs: TensorData[] = []): number[] => [
  ...toNumbers(interpret({ type: { dtype, shape }, at }, inputs)),
];
const read = (t: TensorData, input = 0) => loadReader(t, input);
const f = (...values: number[]) => fromNumbers("f32", [values.length], values);

it("wraps integers at their width", () => {
  const sum = (dtype: DType, a: number, b: number) => compute(dtype, [], () => call("add", constant(dtype, a), constant(dtype, b)))[0];
  expect(sum("i8", 127, 1)).toBe(-128);
  expect(sum("u16", 65535, 2)).toBe(1);
  expect(sum("u32", 2 ** 32 - 1, 1)).toBe(0);
  expect(compute("u8", [], () => call("sub", constant("u8", 1), constant("u8", 2)))).toEqual([255]);
  expect(compute("i64", [], () => call("shl", constant("i64", 1), constant("i64", 70)))).toEqual([0]);
});

it("does not fail on integer division by zero", () => {
  for (const dtype of ["i32", "i64", "u8"] as const)
    expect(compute(dtype, [], () => call("div", constant(dtype, 5), constant(dtype, 0)))).toEqual([0]);
});

it("rounds and truncates in casts", () => {
  const x = f(2049, -1.5, Number.NaN);
  expect(compute("f32", [3], (i) => cast("f32", cast("f16", read(x).at(i))), [x])).toEqual([2048, -1.5, Number.NaN]);
  expect(compute("i64", [3], (i) => cast("i64", read(x).at(i)), [x])).toEqual([2049, -1, 0]);
  expect(compute("bool", [3], (i) => cast("bool", read(x).at(i)), [x])).toEqual([1, 1, 1]);
});

it("hoists a reduction out of the loops it does not depend on", () => {
  const x = f(1, 2, 3, 4);
  const over = (body: (at: Index) => Expr) => {
    const v = newVar(4);
    return reduce("add", [v], body(varIndex(v)));
  };
  const total = over((at) => read(x).at([at]));
  // Σ (x - Σ x) for one output: the inner sum does not depend on the outer sum's variable.
  const deviation = over((at) => call("sub", read(x).at([at]), total));
  expect(compute("f32", [2], () => deviation, [x])).toEqual([-30, -30]);
  expect(compute("f32", [4], ([i]) => call("div", read(x).at([i]), total), [x])).toEqual([0.1, 0.2, 0.3, 0.4].map(Math.fround));
});

it("lets two reductions share a variable and a body", () => {
  const x = f(1, 2, 3);
  const v = newVar(3);
  const body = read(x).at([varIndex(v)]);
  const both = call("add", reduce("add", [v], body), reduce("max", [v], body));
  expect(compute("f32", [1], () => both, [x])).toEqual([9]);
});

it("selects outside of bounds, and clamps places read from data", () => {
  const x = f(1, 2, 3);
  const shifted = (i: Index) => select(within(addIndex(i, -1), 0, 3), read(x).at([clampIndex(addIndex(i, -1), 0, 2)]), constant("f32", 9));
  expect(compute("f32", [5], ([i]) => shifted(i), [x])).toEqual([9, 1, 2, 3, 9]);
  const places = fromNumbers("i64", [3], [-5, 1, 99]);
  const gathered = (i: readonly Index[]) => read(x).at([valueIndex(read(places, 1).at(i), 0, 2)]);
  expect(compute("f32", [3], gathered, [x, places])).toEqual([1, 2, 3]);
  expect(compute("f32", [4], ([i]) => read(x).at([modIndex(addIndex(i, -1), 3)]), [x])).toEqual([3, 1, 2, 3]);
});
