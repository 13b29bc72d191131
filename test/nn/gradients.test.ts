// Gradients of whole layers against differences of their losses along a random direction.
import { expect, test } from "vitest";
import {
  BatchNorm2d,
  Conv2d,
  crossEntropy,
  Embedding,
  Flatten,
  GRU,
  GroupNorm,
  type Layer,
  LayerNorm,
  Linear,
  LSTM,
  MaxPool,
  Module,
  MultiheadAttention,
  RMSNorm,
  Sequential,
  TransformerDecoderLayer,
  TransformerEncoderLayer,
} from "../../src/nn/index.ts";
import { jit, key, random, type Tensor, tensor, valueAndGrad } from "../../src/tensor/index.ts";

const k = key(11);
const image = random.normal(key(1), [2, 2, 6, 6]) as Tensor;
const sequence = random.normal(key(2), [2, 3, 4]) as Tensor;

/** A module and a function of it. No kinks (relu) where the weights move over them: differences see both sides. */
class Applied<M extends Module> extends Module {
  constructor(
    readonly of: M,
    private readonly f: (module: M) => Tensor,
  ) {
    super();
  }
  forward(): Tensor {
    return this.f(this.of);
  }
}
const applied = <M extends Module>(of: M, f: (module: M) => Tensor): Module & { forward(): Tensor } => new Applied(of, f);
const chain = (x: Tensor, ...layers: readonly Layer[]) => applied(new Sequential(...layers), (s) => s.forward(x));

const cases: Readonly<Record<string, Module & { forward(): Tensor }>> = {
  linear: chain(sequence, new Linear(4, 3, { key: k }), (x) => x.tanh()),
  convolutions: chain(
    image,
    new Conv2d(2, 3, 3, { key: k, padding: 1, bias: false }),
    new BatchNorm2d(3),
    (x) => x.silu(),
    new Conv2d(3, 4, 3, { key: k, stride: 2 }),
    (x) => x.gelu(),
    new Flatten(),
    new Linear(16, 3, { key: k }),
  ),
  pool: chain(image, new Conv2d(2, 3, 1, { key: k }), new MaxPool(2)),
  norms: chain(sequence, new Linear(4, 4, { key: k }), new LayerNorm(4), new Linear(4, 4, { key: k }), new RMSNorm(4)),
  groups: chain(image, new Conv2d(2, 4, 1, { key: k }), new GroupNorm(2, 4)),
  embedding: applied(new Embedding(5, 4, { key: k }), (e) => e.forward(tensor([[0, 3, 3]], "i32"))),
  "cross-entropy": applied(new Linear(4, 5, { key: k }), (l) =>
    crossEntropy(l.forward(sequence).reshape([6, 5]), tensor([0, 1, 4, 2, 2, -1], "i32"), { labelSmoothing: 0.1, ignoreIndex: -1 }),
  ),
  LSTM: applied(new LSTM(4, 3, { key: k, layers: 2, bidirectional: true }), (l) => l.forward(sequence).output),
  GRU: applied(new GRU(4, 3, { key: k }), (l) => l.forward(sequence).output),
  attention: applied(new MultiheadAttention(4, 2, { key: k }), (a) => a.forward(sequence, sequence, sequence, { causal: true })),
  encoder: applied(new TransformerEncoderLayer(4, 2, { key: k, normFirst: true, activation: (x) => x.gelu() }), (t) => t.forward(sequence)),
  decoder: applied(new TransformerDecoderLayer(4, 2, { key: k, activation: (x) => x.gelu() }), (t) =>
    t.forward(sequence, sequence.mul(0.5)),
  ),
};

test.each(Object.entries(cases))("%s", async (_, module) => {
  const parameters = module.parameters();
  const before = parameters.map((p) => p.value);
  const directions = parameters.map((p, i) => random.normal(random.fold(key(3), i), p.shape) as Tensor);
  const y = module.forward();
  const weights = random.normal(key(4), y.shape) as Tensor; // a plain sum of a norm does not change
  const loss = () => module.forward().mul(weights).sum().mul(1) as Tensor;
  const slope = jit(() => {
    const { grads } = valueAndGrad(loss, parameters);
    return grads.map((g, i) => g.mul(directions[i]).sum() as Tensor).reduce((a, b) => a.add(b));
  });
  const value = jit((h: Tensor) => {
    for (const [i, p] of parameters.entries()) p.value = before[i].add(directions[i].mul(h));
    return loss();
  });
  const h = 4e-3; // float32: rounding is near 1e-6 / h, the cut-off error near h²
  const got = await slope().item();
  const wanted = ((await value(tensor(h)).item()) - (await value(tensor(-h)).item())) / (2 * h);
  expect(Math.abs(got - wanted), `${got} is ${wanted}`).toBeLessThan(5e-3 * (1 + Math.abs(wanted)));
  slope.dispose();
  value.dispose();
});
