// Every operator of tensors: interpreted in float64, computed when asked for, and inside of a compiled function it gives the same.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  abs, add, arange, argmax, avgPool, broadcastTo, cast, clip, concat, conv, convTranspose, cos, div, einsum, embedding, eq, erf, exp, eye, flatten, floor,
  full, gather, ge, gelu, jit, key, layerNorm, log, logSoftmax, logSumExp, lt, matmul, max, maximum, maxPool, mean, min, minimum, mul, neg, oneHot, ones,
  onesLike, pad, pow, random, relu, reshape, scatterAdd, setDevice, sigmoid, sign, silu, sin, softmax, split, sqrt, squeeze, stack, sub, sum, 
  type Tensor, tanh,tensor, topK, transpose, tril, triu, unsqueeze, variance, where, zeros, zerosLike,
} from "../../src/tensor/index.ts"; // biome-ignore format: a list of names
import { expectNear } from "./near.ts";

const a = random.normal(key(1), [4, 6]) as Tensor;
const b = random.normal(key(2), [6]) as Tensor;
const w = random.normal(key(3), [6, 5]) as Tensor;
const image = random.normal(key(4), [2, 3, 8, 8]) as Tensor;
const kernel = random.normal(key(5), [4, 3, 3, 3]) as Tensor;
const places = tensor([[0, 2], [3, 1]], "i32") as Tensor; // biome-ignore format: a matrix
const bias = random.normal(key(6), [4]) as Tensor;

const unary: Readonly<Record<string, (x: Tensor) => Tensor>> = {
  neg, abs, sign, exp, floor, sin, cos, tanh, erf, sigmoid, relu, silu, softmax, logSoftmax, gelu, transpose, tril, triu, flatten, zerosLike, onesLike,
  square: (x) => x.square(), ceil: (x) => x.ceil(), round: (x) => x.round(), softplus: (x) => x.softplus(), elu: (x) => x.elu(0.5),
  leaky: (x) => x.leakyRelu(0.1), sqrt: (x) => sqrt(abs(x)), log: (x) => log(abs(x)), reciprocal: (x) => x.abs().add(1).reciprocal(),
  "gelu tanh": (x) => gelu(x, "tanh"), cumsum: (x) => x.cumsum(0), "softmax 0": (x) => softmax(x, 0), isNaN: (x) => x.log().isNaN(),
}; // biome-ignore format: a table

const functions: Readonly<Record<string, () => Tensor>> = {
  ...Object.fromEntries(Object.entries(unary).map(([name, f]) => [name, () => f(a)])),
  add: () => add(a, b), sub: () => sub(1, a), mul: () => mul(a, b), div: () => div(a, abs(b).add(1)), pow: () => pow(abs(a), 1.5),
  maximum: () => maximum(a, b), minimum: () => minimum(a, 0), mod: () => arange(6, undefined, 1, "i32").mod(4),
  comparisons: () => stack([eq(a, a), lt(a, b), ge(a, 0), a.ne(b), a.le(b), a.gt(0).and(b.lt(0)), a.gt(0).or(b.lt(0)).not()].map((m) => cast(m, "f32"))),
  where: () => where(a.gt(0), a, b), clip: () => clip(a, -0.5, 0.5), "clip below": () => clip(a, null, b), matmul: () => matmul(a, w),
  einsum: () => einsum("ij,jk->ki", a, w), "matrix and vector": () => matmul(a, b), sum: () => sum(a), mean: () => mean(a, 1, true), max: () => max(a, [0, 1]),
  min: () => min(a, -1), variance: () => variance(a, 0), "variance of samples": () => a.variance(1, true, 1), logSumExp: () => logSumExp(a, 1),
  argmax: () => argmax(a), argmin: () => a.argmin(0, true), layerNorm: () => layerNorm(a, b, b), "layerNorm alone": () => layerNorm(a),
  reshape: () => reshape(a, [2, -1]), squeeze: () => squeeze(unsqueeze(a, [0, 3])), broadcastTo: () => broadcastTo(b, [3, 6]), swapAxes: () => image.swapAxes(),
  permuted: () => image.transpose([0, 2, 3, 1]), gather: () => gather(a, [3, 0], 0), embedding: () => embedding(a, places), split: () => split(a, [2, 4], 1)[1],
  takeAlong: () => a.takeAlong(places.slice(null, [0, 1]).reshape([2, 1]).broadcastTo([2, 6]), 0), pad: () => pad(a, [[1, 0], [0, 2]], 7),
  slice: () => a.slice([1, 4], [-1, undefined, -2]), place: () => a.slice(-1, 2), concat: () => concat([a, a.mul(2)], 1), stack: () => stack([b, b.neg()], 1),
  oneHot: () => oneHot(places, 5), topK: () => topK(a, 2).values, scatterAdd: () => scatterAdd(places, ones([2, 2]), 5), eye: () => eye(3, 4), full: () => full([2, 2], 7),
  zeros: () => zeros([3], "i32").add(1), arange: () => arange(1, 3, 0.5), conv: () => conv(image, kernel, { bias, padding: 1 }),
  "conv in steps": () => conv(image, kernel, { stride: 2, padding: "valid", dilation: 2 }), "conv same": () => conv(image, kernel, { padding: "same" }),
  "conv in groups": () => conv(image, kernel.slice([0, 3], [0, 1]), { groups: 3 }), convTranspose: () => convTranspose(image, kernel.slice([0, 3]), { stride: 2, outputPadding: 1 }),
  maxPool: () => maxPool(image, 2), avgPool: () => avgPool(image, 3, { stride: 2, padding: 1 }), "avgPool without pads": () => avgPool(image, 3, { padding: 1, countPad: false }),
}; // biome-ignore format: a table

describe("interpreted, computed and compiled alike", () => {
  const want = new Map<string, { shape: readonly number[]; numbers: Float64Array }>();
  beforeAll(async () => {
    setDevice({ device: "reference" });
    for (const [name, f] of Object.entries(functions)) {
      const result = f();
      want.set(name, { shape: result.shape, numbers: await result.numbers() });
    }
    setDevice({});
  });
  afterAll(() => setDevice({}));

  test.each(Object.entries(functions))("%s", async (name, f) => {
    const { shape, numbers } = want.get(name)!; // computed above
    for (const result of [f(), jit(f)()]) {
      expect(result.shape).toEqual(shape);
      expectNear(await result.numbers(), numbers, 1e-4);
    }
  });
});
