// SparseLinear against Linear with the same weights: results, gradients at the nonzeros, learning that leaves zeros alone, parameters that go with density.
import { expect, test } from "vitest";
import type { TensorData } from "../../src/ir/tensor.ts";
import { Linear, SparseLinear } from "../../src/nn/index.ts";
import { Adam } from "../../src/optim/index.ts";
import { fromData, jit, key, random, setDevice, type Tensor, valueAndGrad } from "../../src/tensor/index.ts";

const floats = async (t: Tensor): Promise<Float32Array> => (await t.tensorData()).data as Float32Array; // of float32 tensors

async function pair(inputs: number, outputs: number, sparsity: number): Promise<{ dense: Linear; sparse: SparseLinear }> {
  const dense = new Linear(inputs, outputs, { key: key(1) });
  const sparse = await SparseLinear.prune(dense, sparsity);
  dense.weight.value = fromData(await sparse.denseWeight());
  return { dense, sparse };
}

function expectNear(got: ArrayLike<number>, want: ArrayLike<number>): void {
  expect(got.length).toBe(want.length);
  for (let i = 0; i < want.length; i++) expect(Math.abs(got[i] - want[i])).toBeLessThan(2e-5 * (1 + Math.abs(want[i])));
}

test.each([
  [33, 150, 90, 0.5],
  [1, 150, 90, 0.5],
  [1, 300, 600, 0.9],
  [5, 70, 200, 0.9],
])("%i × (%i → %i), %d zeros", async (batch, inputs, outputs, sparsity) => {
  const { dense, sparse } = await pair(inputs, outputs, sparsity);
  expect(sparse.density).toBeCloseTo(1 - sparsity, 3);
  const x = random.normal(key(2), [batch, inputs]);
  expectNear(await floats(sparse.forward(x)), await floats(dense.forward(x)));

  const lossOf = (layer: Linear | SparseLinear): Tensor => {
    const y = layer.forward(x.mul(x));
    return y.mul(y).sum();
  };
  const [own, of] = [
    [sparse.values, sparse.bias!],
    [dense.weight, dense.bias!],
  ]; // both have one
  const [values, bias] = valueAndGrad(() => lossOf(sparse), own).grads;
  const [weight, wanted] = valueAndGrad(() => lossOf(dense), of).grads;
  expectNear(await floats(bias), await floats(wanted));
  // Of the dense gradient only what belongs to nonzeros.
  const full = await floats(weight);
  const kept = await valuesAt(sparse, full, [outputs, inputs]);
  const scale = full.reduce((most, v) => Math.max(most, Math.abs(v)), 0);
  expectNear(
    (await floats(values)).map((v) => v / scale),
    kept.map((v) => v / scale),
  );
});

/** What of a dense matrix lies where the layer has elements, in their order. */
async function valuesAt(layer: SparseLinear, full: Float32Array, shape: readonly number[]): Promise<Float32Array> {
  const mask = (await layer.denseWeight()).data as Float32Array;
  const kept = new SparseLinear({ dtype: "f32", shape, data: full }, { mask });
  return floats(kept.values.value);
}

test("gradients with respect to what goes in", async () => {
  const { dense, sparse } = await pair(90, 70, 0.8);
  const inputs = new Linear(90, 1, { key: key(3) });
  const gradient = (layer: Linear | SparseLinear): Tensor =>
    valueAndGrad(() => layer.forward(inputs.weight.value).relu().sum(), [inputs.weight]).grads[0];
  expectNear(await floats(gradient(sparse)), await floats(gradient(dense)));
});

test.each([1, 2])("learning on %i threads: zeros stay, the same bits for any number", async (threads) => {
  setDevice({ threads });
  const { sparse } = await pair(100, 65, 0.9);
  const before = await sparse.denseWeight();
  const parameters = sparse.parameters();
  const optimizer = new Adam(parameters, { learningRate: 1e-2 });
  const x = random.normal(key(5), [40, 100]);
  const step = jit(() => {
    const { value, grads } = valueAndGrad(() => sparse.forward(x).add(-1).abs().mean(), parameters);
    optimizer.step(grads);
    return value;
  });
  const losses: number[] = [];
  for (let i = 0; i < 20; i++) losses.push(await step().item());
  expect(losses[19]).toBeLessThan(0.7 * losses[0]);
  const after = await sparse.denseWeight();
  const isZero = ({ data }: TensorData) => Array.from(data as Float32Array, (v) => v === 0);
  expect(isZero(after)).toEqual(isZero(before));
  learned.push(after);
  expect(after).toEqual(learned[0]);
  step.dispose();
});
const learned: TensorData[] = [];

test("a batch of one: the same bits for any number of threads, both directions", async () => {
  const found: Float32Array[] = [];
  for (const threads of [1, 2]) {
    setDevice({ threads });
    const { sparse } = await pair(700, 600, 0.9);
    const inputs = new Linear(700, 1, { key: key(3) });
    const { value, grads } = valueAndGrad(() => sparse.forward(inputs.weight.value).relu().sum(), [inputs.weight, sparse.values]);
    found.push(Float32Array.from([await value.item(), ...(await floats(grads[0])), ...(await floats(grads[1]))]));
  }
  expect(found[1]).toEqual(found[0]);
});

test("what has no sense is refused", async () => {
  const weight: TensorData = { dtype: "f32", shape: [2, 2], data: new Float32Array(4) };
  expect(() => new SparseLinear(weight)).toThrow("no element of the weight is left");
  expect(() => new SparseLinear(weight, { mask: [1] })).toThrow("mask of 1");
  await expect(SparseLinear.prune(new Linear(2, 2, { key: key(0) }), 1)).rejects.toThrow("sparsity 1");
});

test("pruning leaves the largest, of equal ones the last", async () => {
  const layer = new Linear(40, 30, { key: key(3) });
  const drawn = await floats(layer.weight.value);
  for (const steps of [3, 1000]) {
    const weight = Float32Array.from(drawn, (v) => (Math.round(v * steps) + (v < 0 ? -0.5 : 0.5)) / steps);
    layer.weight.value = fromData({ dtype: "f32", shape: [30, 40], data: weight });
    for (const sparsity of [0, 0.25, 0.6, 0.99]) {
      const order = Array.from(weight.keys()).sort((a, b) => Math.abs(weight[a]) - Math.abs(weight[b]) || a - b);
      const wanted = weight.slice();
      for (const i of order.slice(0, Math.floor(sparsity * weight.length))) wanted[i] = 0;
      expect((await (await SparseLinear.prune(layer, sparsity)).denseWeight()).data).toEqual(wanted);
    }
  }
});
