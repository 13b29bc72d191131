// Element-wise operators against values worked out by hand.
import { describe, expect, it } from "vitest";
import { DTYPES, type DType } from "../../src/ir/dtype.ts";
import { type Attrs, apply } from "../../src/ir/graph.ts";
import { fromNumbers, type Shape, type TensorData, toNumbers } from "../../src/ir/tensor.ts";
import { evaluateNode, OPS } from "../../src/ops/index.ts";
import { constantValue, input } from "../../src/ops/source.ts";

const t = (dtype: DType, shape: Shape, values: number[]): TensorData => fromNumbers(dtype, shape, values);
const f = (...values: number[]) => t("f32", [values.length], values);

function run(name: string, inputs: (TensorData | null)[], attrs: Attrs = {}): TensorData {
  const values = inputs.map((x, i) => x && input(`x${i}`, { dtype: x.dtype, shape: x.shape }));
  return evaluateNode(apply(OPS.get(name)!, values, attrs)[0].node, inputs)[0];
}
const numbers = (x: TensorData) => [...toNumbers(x)];

describe("broadcasting", () => {
  it("stretches axes of size 1 and missing leading axes", () => {
    const y = run("Add", [t("f32", [2, 1], [10, 20]), f(1, 2, 3)]);
    expect(y.shape).toEqual([2, 3]);
    expect(numbers(y)).toEqual([11, 12, 13, 21, 22, 23]);
  });
  it("says which shapes do not broadcast", () => {
    expect(() => run("Add", [t("f32", [4, 7], new Array(28).fill(0)), t("f32", [8, 3], new Array(24).fill(0))])).toThrow(
      "Add: shapes (4,7) and (8,3) do not broadcast",
    );
  });
  it("says which types differ", () => {
    expect(() => run("Add", [f(1), t("i32", [1], [1])])).toThrow("Add: input 0 is f32, input 1 is i32; the types must be equal");
    expect(() => run("Where", [t("bool", [1], [1]), f(1), t("i32", [1], [1])])).toThrow("Where: input 1 is f32, input 2 is i32");
    expect(() => run("Sqrt", [t("i32", [1], [1])])).toThrow("Sqrt: input 0 is i32, wanted f32, f64, f16, bf16");
  });
  it("keeps empty axes empty", () => {
    expect(run("Mul", [t("f32", [0, 3], []), f(1, 2, 3)]).shape).toEqual([0, 3]);
  });
});

describe("integers", () => {
  it("wrap at their width", () => {
    expect(numbers(run("Add", [t("u8", [2], [250, 1]), t("u8", [2], [10, 2])]))).toEqual([4, 3]);
    expect(numbers(run("Mul", [t("i32", [1], [2 ** 30]), t("i32", [1], [6])]))).toEqual([-(2 ** 31)]);
  });
  it("of 64 bits are exact beyond 2^53", () => {
    const big: TensorData = { dtype: "i64", shape: [2], data: BigInt64Array.of(2n ** 62n + 1n, -(2n ** 63n)) };
    expect(run("Add", [big, t("i64", [1], [2])]).data).toEqual(BigInt64Array.of(2n ** 62n + 3n, -(2n ** 63n) + 2n));
    expect(run("Neg", [big]).data).toEqual(BigInt64Array.of(-(2n ** 62n) - 1n, -(2n ** 63n)));
  });
  it("divide towards zero, and modulo takes the sign asked for", () => {
    const a = t("i32", [4], [7, -7, 7, -7]);
    const b = t("i32", [4], [3, 3, -3, -3]);
    expect(numbers(run("Div", [a, b]))).toEqual([2, -2, -2, 2]);
    expect(numbers(run("Mod", [a, b]))).toEqual([1, 2, -2, -1]);
    expect(numbers(run("Mod", [a, b], { fmod: 1 }))).toEqual([1, -1, 1, -1]);
  });
  it("shift", () => {
    expect(numbers(run("BitShift", [t("u8", [2], [129, 3]), t("u8", [2], [1, 9])], { direction: "LEFT" }))).toEqual([2, 0]);
    expect(() => run("BitShift", [t("u8", [1], [1]), t("u8", [1], [1])], { direction: "UP" })).toThrow("wanted LEFT or RIGHT");
  });
});

describe("special cases", () => {
  it("Pow takes cheap exponents apart", () => {
    const x = f(-2, 3);
    const node = apply(OPS.get("Pow")!, [input("x", x), constantValue(f(2))])[0].node;
    expect(numbers(evaluateNode(node, [x, f(2)])[0])).toEqual([4, 9]);
    expect(numbers(run("Pow", [t("i32", [2], [4, 9]), f(0.5, 0.5)]))).toEqual([2, 3]);
  });
  it("Clip takes absent bounds", () => {
    expect(numbers(run("Clip", [f(-2, 0, 2), null, t("f32", [], [1])]))).toEqual([-2, 0, 1]);
  });
  it("Softplus does not overflow", () => {
    expect(numbers(run("Softplus", [f(-1000, 0, 1000)]))).toEqual([0, Math.fround(Math.LN2), 1000]);
  });
  it("Cast rounds halves to even and truncates to integers", () => {
    expect(numbers(run("Cast", [f(2049, 2051, 1e6)], { to: DTYPES.f16.onnx }))).toEqual([2048, 2052, Number.POSITIVE_INFINITY]);
    expect(numbers(run("Cast", [f(-1.9, 1.9, 300)], { to: DTYPES.u8.onnx }))).toEqual([255, 1, 44]);
    expect(() => run("Cast", [f(1)], { to: 8 })).toThrow("Cast: ONNX data type 8 is not supported");
  });
});
