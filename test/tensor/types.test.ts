// Shapes and element types that the type checker knows.
import { describe, expectTypeOf, test } from "vitest";
import { add, grad, jit, matmul, oneHot, Parameter, type Tensor, tensor, transpose, valueAndGrad, zeros } from "../../src/tensor/index.ts";

describe("types", () => {
  const a = zeros([2, 3]);
  const b = zeros([3, 4]);

  test("creation", () => {
    expectTypeOf(a).toEqualTypeOf<Tensor<readonly [2, 3], "f32">>();
    expectTypeOf(zeros([5], "i32")).toEqualTypeOf<Tensor<readonly [5], "i32">>();
    expectTypeOf(tensor([[1, 2], [3, 4]])).toEqualTypeOf<Tensor<[number, number], "f32">>(); // biome-ignore format: a matrix
    expectTypeOf(tensor(1)).toEqualTypeOf<Tensor<[], "f32">>();
  });
  test("products", () => {
    expectTypeOf(a.matmul(b)).toEqualTypeOf<Tensor<[2, 4], "f32">>();
    expectTypeOf(matmul(zeros([7, 2, 3]), b)).toEqualTypeOf<Tensor<[7, 2, 4], "f32">>();
    expectTypeOf(a.matmul(zeros([3]))).toEqualTypeOf<Tensor<[2], "f32">>();
    expectTypeOf(a.matmul(a.reshape([3, 2] as number[]))).toEqualTypeOf<Tensor<number[], "f32">>();
  });
  test("broadcasting", () => {
    expectTypeOf(a.add(1)).toEqualTypeOf<Tensor<[2, 3], "f32">>();
    expectTypeOf(a.mul(zeros([3]))).toEqualTypeOf<Tensor<[2, 3], "f32">>();
    expectTypeOf(add(zeros([2, 1]), zeros([4, 1, 3]))).toEqualTypeOf<Tensor<[4, 2, 3], "f32">>();
    expectTypeOf(add(1, a)).toEqualTypeOf<Tensor<[2, 3], "f32">>();
    expectTypeOf(a.lt(a)).toEqualTypeOf<Tensor<[2, 3], "bool">>();
  });
  test("views and sums", () => {
    expectTypeOf(a.transpose()).toEqualTypeOf<Tensor<[3, 2], "f32">>();
    expectTypeOf(transpose(zeros([2, 3, 4]))).toEqualTypeOf<Tensor<[4, 3, 2], "f32">>();
    expectTypeOf(a.reshape([6])).toEqualTypeOf<Tensor<readonly [6], "f32">>();
    expectTypeOf(a.sum()).toEqualTypeOf<Tensor<[], "f32">>();
    expectTypeOf(a.sum(0)).toEqualTypeOf<Tensor<number[], "f32">>();
    expectTypeOf(a.cast("f16")).toEqualTypeOf<Tensor<readonly [2, 3], "f16">>();
    expectTypeOf(oneHot(zeros([2], "i32"), 3)).toEqualTypeOf<Tensor<number[], "f32">>();
  });
  test("a known shape is a shape", () => {
    expectTypeOf(a).toExtend<Tensor>();
    expectTypeOf(a.matmul(b)).toExtend<Tensor>();
    expectTypeOf(new Parameter(a)).toExtend<Parameter>();
    expectTypeOf<Tensor>().not.toExtend<Tensor<[2, 3], "f32">>();
  });
  test("transforms", () => {
    expectTypeOf(jit((x: Tensor<[2]>, n: number) => ({ y: x.add(n) }))).toBeCallableWith(zeros([2]) as Tensor as Tensor<[2]>, 3);
    const f = (x: Tensor<[2]>, y: { w: Tensor<[3]> }) => x.sum().add(y.w.sum());
    expectTypeOf(grad(f)).returns.toEqualTypeOf<Tensor<[2]>>();
    expectTypeOf(grad(f, 1)).returns.toEqualTypeOf<{ w: Tensor<[3]> }>();
    expectTypeOf(valueAndGrad(() => a.sum(), [new Parameter(a)]).grads).toEqualTypeOf<Tensor[]>();
  });
});
