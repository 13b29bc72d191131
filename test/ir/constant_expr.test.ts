// Tiny tensors computed element by element, against the same in loops.
import { expect, it } from "vitest";
import { moveElements } from "../../src/ir/constant_expr.ts";
import { DTYPES, type DType } from "../../src/ir/dtype.ts";
import { call, cast, constant, type Expr, select, within } from "../../src/ir/expr.ts";
import { interpret, loadReader } from "../../src/ir/expr_interpreter.ts";
import { addIndex, clampIndex, type Index } from "../../src/ir/index_expr.ts";
import { fromNumbers, type TensorData, toNumbers } from "../../src/ir/tensor.ts";

const WHOLE = (Object.keys(DTYPES) as DType[]).filter((t) => DTYPES[t].kind !== "float");
const NUMBERS = [0, 1, -1, 127, 128, -129, 255, 256, 32768, -32769, 65536, 2 ** 31, -(2 ** 31) - 1, 2 ** 32 + 5, -(2 ** 53) + 1];
const moved = (dtype: DType, count: number, at: (index: readonly Index[]) => Expr, ...inputs: TensorData[]) =>
  moveElements({ type: { dtype, shape: [count] }, at }, inputs);

it.each(WHOLE.flatMap((from) => WHOLE.map((to) => [from, to] as const)))("converts %s to %s", (from, to) => {
  const few = fromNumbers(from, [NUMBERS.length], NUMBERS);
  const many = fromNumbers(from, [2 * NUMBERS.length], [...NUMBERS, ...NUMBERS]);
  const at = (index: readonly Index[]) => cast(to, loadReader(many, 0).at(index));
  const loops = interpret({ type: { dtype: to, shape: many.shape }, at }, [many]);
  expect([...moved(to, NUMBERS.length, at, few)!.data]).toEqual([...loops.data].slice(0, NUMBERS.length)); // it only converts
});

it("moves and selects elements of any type but half floats", () => {
  const x = fromNumbers("f32", [4], [0.1, -0, Number.NaN, 4]);
  const shifted = ([i]: readonly Index[]) =>
    select(within(addIndex(i, -1), 0, 4), loadReader(x, 0).at([clampIndex(addIndex(i, -1), 0, 3)]), loadReader(x, 0).at([i]));
  expect([...toNumbers(moved("f32", 5, shifted, x)!)]).toEqual([0.1, 0.1, -0, Number.NaN, 4].map(Math.fround));
  const half = fromNumbers("f16", [1], [1]);
  expect(moved("f16", 1, (i) => loadReader(half, 0).at(i), half)).toBeUndefined();
});

it("leaves arithmetic, conversions of floats and larger tensors to loops", () => {
  const x = fromNumbers("f32", [1], [1.5]);
  expect(moved("i64", 1, (i) => cast("i64", loadReader(x, 0).at(i)), x)).toBeUndefined();
  expect(moved("i32", 1, () => call("add", constant("i32", 1), constant("i32", 2)))).toBeUndefined();
  expect(moved("i32", 17, () => constant("i32", 1))).toBeUndefined();
  expect(moved("f32", 1, () => constant("f32", 0.5))).toBeUndefined();
});
