// Layers against values worked out by hand or by plain loops.
import { describe, expect, test } from "vitest";
import {
  attention,
  BatchNorm1d,
  BatchNorm2d,
  Conv2d,
  Embedding,
  GRU,
  GroupNorm,
  LayerNorm,
  Linear,
  LSTM,
  MultiheadAttention,
  RMSNorm,
} from "../../src/nn/index.ts";
import { jit, key, ones, random, type Tensor, tensor } from "../../src/tensor/index.ts";

const k = key(7);
const near = (got: Iterable<number>, wanted: readonly number[], by = 1e-5): void => {
  const list = [...got];
  expect(list.length).toBe(wanted.length);
  for (const [i, n] of list.entries())
    expect(Math.abs(n - wanted[i]), `${i}: ${n} is ${wanted[i]}`).toBeLessThanOrEqual(by * (1 + Math.abs(wanted[i])));
};
const flat = (x: Tensor): Promise<Float64Array> => x.numbers();

test("linear", async () => {
  const layer = new Linear(2, 2, { key: k });
  layer.weight.value = tensor([[1, 2], [3, 4]]); // biome-ignore format: a matrix
  layer.bias!.value = tensor([10, 20]);
  expect(await layer.forward(tensor([[1, 1]])).array()).toEqual([[13, 27]]);
});

test("convolution", async () => {
  const layer = new Conv2d(1, 1, 2, { key: k, padding: 0, stride: 1 });
  layer.weight.value = tensor([[[[1, 2], [3, 4]]]]); // biome-ignore format: a matrix
  layer.bias!.value = tensor([1]);
  expect(await layer.forward(tensor([[[[1, 0, 0], [0, 1, 0]]]])).array()).toEqual([[[[6, 4]]]]); // biome-ignore format: a matrix
});

test("embedding", async () => {
  const layer = new Embedding(3, 2, { key: k });
  layer.weight.value = tensor([[1, 2], [3, 4], [5, 6]]); // biome-ignore format: a matrix
  expect(await layer.forward(tensor([[2, 0]], "i32")).array()).toEqual([[[5, 6], [1, 2]]]); // biome-ignore format: a matrix
});

describe("batch normalisation", () => {
  test("by the batch while training, which moves the running statistics; by those afterwards", async () => {
    const norm = new BatchNorm1d(1, { epsilon: 0, momentum: 0.5 });
    norm.weight!.value = tensor([3]);
    norm.bias!.value = tensor([1]);
    near(await flat(norm.forward(tensor([[1], [3]]))), [-2, 4]);
    expect(await norm.runningMean.value.array()).toEqual([1]); // halfway from 0 to 2
    expect(await norm.runningVar.value.array()).toEqual([1.5]); // halfway from 1 to 2, the batch's variance over n − 1
    expect(await norm.numBatchesTracked.value.item()).toBe(1);
    norm.eval();
    near(await flat(norm.forward(tensor([[1], [3]]))), [1, 1 + (3 * 2) / Math.sqrt(1.5)]);
  });

  test("images, compiled", async () => {
    const norm = new BatchNorm2d(3);
    using f = jit((x: Tensor) => norm.forward(x));
    const x = random.normal(k, [4, 3, 5, 5], 2, 3) as Tensor;
    const y = f(x);
    near(await flat(y.mean([0, 2, 3])), [0, 0, 0]);
    near(await flat(y.variance([0, 2, 3])), [1, 1, 1], 1e-4);
    expect(await norm.numBatchesTracked.value.item()).toBe(1);
    expect(() => norm.forward(ones([4, 2, 5, 5]))).toThrow("wanted rank 4 with 3 channels");
  });
});

test("norms within an example", async () => {
  const x = tensor([[1, 3, 2, 6]]);
  near(
    await flat(new LayerNorm(4, { epsilon: 0 }).forward(x)),
    [-2, 0, -1, 3].map((d) => d / Math.sqrt(3.5)),
  );
  near(
    await flat(new RMSNorm(4, { epsilon: 0 }).forward(x)),
    [1, 3, 2, 6].map((n) => n / Math.sqrt(12.5)),
  );
  near(await flat(new GroupNorm(2, 4, { epsilon: 0 }).forward(x)), [-1, 1, -1, 1]);
});

describe("attention", () => {
  test("weighs values by softmax of scaled products", async () => {
    const [q, key1, v] = [tensor([[2, 0]]), tensor([[1, 0], [0, 1]]), tensor([[1], [3]])]; // biome-ignore format: matrices
    const first = 1 / (1 + Math.exp(-Math.SQRT2));
    near(await flat(attention(q, key1, v)), [first + 3 * (1 - first)]);
  });
  test("sees nothing behind a mask or later", async () => {
    const x = tensor([[1, 0], [0, 1], [1, 1]]); // biome-ignore format: a matrix
    const causal = await attention(x, x, x, { causal: true }).numbers();
    near(causal.slice(0, 2), [1, 0]);
    const mask = tensor([false, false, true], "bool");
    near(await flat(attention(x, x, x, { mask })), [1, 1, 1, 1, 1, 1]);
  });
  test("with heads: all in one product, or each part on its own", async () => {
    const layer = new MultiheadAttention(8, 2, { key: k });
    const x = random.normal(k, [2, 5, 8]) as Tensor;
    const copies = [x.add(0), x.add(0), x.add(0)];
    near(await flat(layer.forward(x)), [...(await flat(layer.forward(copies[0], copies[1], copies[2])))]);
  });
});

describe("recurrent layers", () => {
  const sigmoid = (n: number) => 1 / (1 + Math.exp(-n));
  /** The gates' numbers of one unit with one input. */
  const gates = (w: readonly number[], u: readonly number[], b: readonly number[], x: number, h: number) =>
    w.map((n, i) => ({ x: n * x + b[i], h: u[i] * h }));
  const [w, u, b] = [[0.5, -0.3, 0.8, 0.2], [0.1, 0.4, -0.6, 0.3], [0.05, 0.1, -0.1, 0.2]]; // biome-ignore format: one a gate
  const xs = [1, -2, 0.5];

  const set = (layer: LSTM | GRU, count: number, suffix = "l0") => {
    const column = (list: readonly number[]) => ({
      dtype: "f32" as const,
      shape: [count, 1],
      data: Float32Array.from(list.slice(0, count)),
    });
    const row = (list: readonly number[]) => ({ ...column(list), shape: [count] });
    layer.loadStateDict(
      {
        [`weight_ih_${suffix}`]: column(w),
        [`weight_hh_${suffix}`]: column(u),
        [`bias_ih_${suffix}`]: row(b),
        [`bias_hh_${suffix}`]: row([0, 0, 0, 0]),
      },
      { strict: false },
    );
  };

  const lstm = (list: readonly number[]): number[] => {
    let [h, c] = [0, 0];
    return list.map((x) => {
      const [i, f, g, o] = gates(w, u, b, x, h).map((n) => n.x + n.h);
      c = sigmoid(f) * c + sigmoid(i) * Math.tanh(g);
      h = sigmoid(o) * Math.tanh(c);
      return h;
    });
  };
  const gru = (list: readonly number[]): number[] => {
    let h = 0;
    return list.map((x) => {
      const [r, z, n] = gates(w.slice(0, 3), u, b, x, h);
      const next = Math.tanh(n.x + sigmoid(r.x + r.h) * n.h);
      h = (1 - sigmoid(z.x + z.h)) * next + sigmoid(z.x + z.h) * h;
      return h;
    });
  };
  const input = tensor([xs.map((x) => [x])]);

  test("LSTM, both directions", async () => {
    const layer = new LSTM(1, 1, { key: k, bidirectional: true });
    set(layer, 4);
    set(layer, 4, "l0_reverse");
    const { output, state } = layer.forward(input);
    const [there, back] = [lstm(xs), lstm(xs.toReversed()).toReversed()];
    near(
      await flat(output),
      there.flatMap((n, i) => [n, back[i]]),
    );
    near(await flat(state[0]), [there[2], back[0]]);
    expect(state[1].shape).toEqual([2, 1, 1]);
  });
  test("GRU, in two parts", async () => {
    const layer = new GRU(1, 1, { key: k });
    set(layer, 3);
    near(await flat(layer.forward(input).output), gru(xs));
    const first = layer.forward(tensor([[[1], [-2]]]));
    near(await flat(layer.forward(tensor([[[0.5]]]), first.state).output), gru(xs).slice(2));
  });
});
