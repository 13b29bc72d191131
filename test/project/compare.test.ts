// The conformance runner's comparison: numpy.testing.assert_allclose(wanted, got, rtol 1e-3, atol 1e-7), plus dtype and shape.
import { expect, test } from "vitest";
import { compare } from "../../bench/conformance/compare.ts";
import type { DType } from "../../src/ir/dtype.ts";
import { fromNumbers } from "../../src/ir/tensor.ts";

const tensor = (values: readonly number[], dtype: DType = "f32", shape: readonly number[] = [values.length]) =>
  fromNumbers(dtype, shape, values);

test.each([
  ["equal", [1, -2, 0], [1, -2, 0]],
  ["within the relative tolerance", [1.0009], [1]],
  ["within the absolute tolerance", [0], [0.9e-7]],
  ["NaN where NaN is wanted", [Number.NaN], [Number.NaN]],
  ["infinities of one sign", [Number.POSITIVE_INFINITY], [Number.POSITIVE_INFINITY]],
  ["zeros of both signs", [-0], [0]],
  ["empty", [], []],
])("agree: %s", (_, got, wanted) => expect(compare(tensor(got), tensor(wanted))).toBeUndefined());

test.each([
  ["too far", [1, 1.0011], [1, 1], /element 1 of 2 is 1\.001/],
  ["a small value for zero", [0], [2e-7], /element 0/],
  ["NaN for a number", [Number.NaN], [1], /is NaN, wanted 1/],
  ["a number for NaN", [1], [Number.NaN], /wanted NaN/],
  ["a number for infinity", [3e38], [Number.POSITIVE_INFINITY], /wanted Infinity/],
  ["infinity for a number", [Number.POSITIVE_INFINITY], [3e38], /is Infinity/],
  ["the other infinity", [Number.NEGATIVE_INFINITY], [Number.POSITIVE_INFINITY], /is -Infinity/],
])("differ: %s", (_, got, wanted, message) => expect(compare(tensor(got), tensor(wanted))).toMatch(message));

test("dtype, shape and presence count", () => {
  expect(compare(tensor([1], "i32"), tensor([1]))).toBe("got i32[1], wanted f32[1]");
  expect(compare(tensor([1, 2], "f32", [1, 2]), tensor([1, 2]))).toBe("got f32[1,2], wanted f32[2]");
  expect(compare(undefined, tensor([1]))).toBe("missing");
});
