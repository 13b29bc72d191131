// Modules: PyTorch's keys, what is trained, and loading and saving.
import { describe, expect, test } from "vitest";
import {
  BatchNorm2d,
  Conv2d,
  Dropout,
  Embedding,
  GRU,
  Linear,
  LSTM,
  Module,
  MultiheadAttention,
  RandomStream,
  ReLU,
  Sequential,
  TransformerDecoderLayer,
  TransformerEncoderLayer,
} from "../../src/nn/index.ts";
import { jit, key, ones, type Tensor } from "../../src/tensor/index.ts";

const k = key(0);
const keysOf = (module: Module): string[] => [...module.namedState()].map(([name]) => name);
const affine = (...names: string[]) => names.flatMap((name) => [`${name}.weight`, `${name}.bias`]);
const attention = (name: string) => [`${name}.in_proj_weight`, `${name}.in_proj_bias`, ...affine(`${name}.out_proj`)];

const modules: readonly (readonly [Module, readonly string[]])[] = [
  [new Linear(2, 3, { key: k }), ["weight", "bias"]],
  [new Conv2d(4, 6, 3, { key: k, bias: false, groups: 2 }), ["weight"]],
  [new BatchNorm2d(3), ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]],
  [new Embedding(5, 2, { key: k }), ["weight"]],
  [new Sequential(new Linear(2, 3, { key: k }), new ReLU(), (x) => x.tanh(), new Linear(3, 1, { key: k })), affine("0", "3")],
  [
    new LSTM(3, 4, { key: k, bidirectional: true }),
    ["l0", "l0_reverse"].flatMap((s) => ["weight_ih", "weight_hh", "bias_ih", "bias_hh"].map((name) => `${name}_${s}`)),
  ],
  [
    new GRU(3, 4, { key: k, layers: 2 }),
    ["l0", "l1"].flatMap((s) => ["weight_ih", "weight_hh", "bias_ih", "bias_hh"].map((n) => `${n}_${s}`)),
  ],
  [new MultiheadAttention(8, 2, { key: k }), ["in_proj_weight", "in_proj_bias", ...affine("out_proj")]],
  [new TransformerEncoderLayer(8, 2, { key: k }), [...attention("self_attn"), ...affine("linear1", "linear2", "norm1", "norm2")]],
  [
    new TransformerDecoderLayer(8, 2, { key: k }),
    [...attention("self_attn"), ...attention("multihead_attn"), ...affine("linear1", "linear2", "norm1", "norm2", "norm3")],
  ],
];

test.each(modules)("keys of module %#", (module, keys) => {
  expect(keysOf(module).sort()).toEqual([...keys].sort());
});

class Tied extends Module {
  readonly embedding = new Embedding(6, 4, { key: k });
  readonly head = new Linear(4, 6, { key: k, bias: false });
  readonly blocks = [new Linear(4, 4, { key: k }), new Linear(4, 4, { key: k })];
  readonly normOfAll = new BatchNorm2d(4);

  constructor() {
    super();
    Object.assign(this.head, { weight: this.embedding.weight });
  }
}

describe("a module of modules", () => {
  const model = new Tied();

  test("a shared parameter has two keys and is trained once; statistics are not trained", () => {
    expect(keysOf(model)).toContain("head.weight");
    expect(model.namedParameters().map(([name]) => name)).toEqual([
      "embedding.weight",
      ...affine("blocks.0", "blocks.1"),
      "norm_of_all.weight",
      "norm_of_all.bias",
    ]);
    expect(model.parameters()[1].name).toBe("blocks.0.weight");
  });

  test("frozen parameters are saved and not trained", () => {
    const frozen = new Linear(2, 2, { key: k });
    frozen.weight.trainable = false;
    expect(frozen.parameters()).toEqual([frozen.bias]);
    expect(keysOf(frozen)).toEqual(["weight", "bias"]);
  });

  test("train and eval reach all modules", () => {
    model.eval();
    expect([...model.modules()].map((m) => m.training)).toEqual(new Array(6).fill(false));
    model.train();
    expect([...model.modules()].every((m) => m.training)).toBe(true);
  });
});

describe("state dicts", () => {
  test("a model takes another's weights", async () => {
    const [a, b] = [1, 2].map((seed) => new Sequential(new Linear(3, 4, { key: key(seed) }), new BatchNorm2d(4)));
    const saved = await a.stateDict();
    b.loadStateDict(saved);
    expect(await b.stateDict()).toEqual(saved);
    expect(saved["1.num_batches_tracked"]).toMatchObject({ dtype: "i64", shape: [] });
  });

  test("what does not fit is refused, and nothing changes", async () => {
    const model = new Linear(2, 3, { key: k });
    const before = await model.stateDict();
    const { weight, bias } = before;
    expect(() => model.loadStateDict({ weight, other: bias })).toThrow("lacks bias and has other");
    expect(() => model.loadStateDict({ weight: bias, bias })).toThrow("weight has shape (3), wanted (3,2)");
    model.loadStateDict({ weight }, { strict: false });
    expect(await model.stateDict()).toEqual(before);
  });
});

describe("dropout", () => {
  test("draws anew in each run of a compiled function, and nothing when not training", async () => {
    const stream = new RandomStream(4);
    const drop = new Dropout(0.5, stream);
    using f = jit((x: Tensor) => drop.forward(x));
    const x = ones([1000]) as Tensor;
    const [a, b] = [await f(x).array(), await f(x).array()];
    expect(a).not.toEqual(b);
    expect(await f(x).mean().item()).toBeCloseTo(1, 0);
    expect(new Set(a as number[])).toEqual(new Set([0, 2]));
    drop.eval();
    expect(drop.forward(x)).toBe(x);
  });
});
