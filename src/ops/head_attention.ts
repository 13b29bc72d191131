// HeadAttention: attention of heads that lie side by side, queries (N, T, H, d), keys and values (N, S, H, d) → (N, T, H, d), with masks and dropout; and its gradient.
import { HeddleError } from "../ir/error.ts";
import { type AttrSpec, type Builder, defineOp, type Node, type Op, type TensorType, type Value } from "../ir/graph.ts";
import { builder } from "./build.ts";
import { bool, FLOATS, f32, inputType, sameDType, tensorOf } from "./define.ts";
import { unbroadcast } from "./gradient.ts";
import { MatMul } from "./matmul.ts";
import { RandomWords } from "./random_words.ts";
import { hiddenScores, ScoreWeights, ScoreWeightsGrad, seenBefore } from "./score_weights.ts";
import { Softmax } from "./softmax.ts";

interface HeadAttentionAttrs {
  /** Query i of T sees keys 0 to i + S − T of S; S is at least T. */
  readonly causal: number;
  /** What scores are multiplied by. */
  readonly scale: number;
  /** Weights are zero with this probability, and the rest is divided by what is left of 1, as a key draws; 0: none are. */
  readonly dropout: number;
}

const ATTRS: Readonly<Record<keyof HeadAttentionAttrs, AttrSpec>> = {
  causal: { type: "int", default: 0 },
  scale: { type: "float", default: 1 },
  dropout: { type: "float", default: 0 },
};

/** What scores become that a mask hides: a row that sees no key gives a mean, and the logarithm of its sum of powers still tells how many they are. */
export const HIDDEN_SCORE = -30_000;

/** Inputs by number. Keys and values are absent where the first is all three, (N, T, 3H, d). Masks are booleans, true where a key is seen, and what is added then; both broadcast to (N, H, T, S). */
const [KEYS, VALUES, SEEN, BIAS, RANDOM] = [1, 2, 3, 4, 5];

export interface AttentionGeometry extends HeadAttentionAttrs {
  readonly batch: number;
  readonly heads: number;
  readonly queries: number;
  readonly keys: number;
  readonly depth: number;
  /** Queries, keys and values are one tensor, (N, T, 3H, d). */
  readonly isPacked: boolean;
  readonly dtype: TensorType["dtype"];
}

type Inputs = readonly (Value | null)[];

function geometryOf(op: string, inputs: Inputs, attrs: HeadAttentionAttrs): AttentionGeometry {
  const isPacked = !inputs[KEYS];
  const types = (isPacked ? [0] : [0, KEYS, VALUES]).map((i) => inputType(op, inputs, i, FLOATS));
  const [[batch, queries, all, depth], [, keys] = types[0].shape] = types.map((t) => t.shape);
  const heads = isPacked ? all / 3 : all;
  const want = isPacked ? [[batch, queries, all, depth]] : [types[0].shape, ...[1, 2].map(() => [batch, keys, heads, depth])];
  const isRight = types.every(({ shape }, i) => shape.length === 4 && shape.join() === want[i].join()) && Number.isInteger(heads);
  if (!isRight || (attrs.causal && keys < queries))
    throw new HeddleError("bad-model", `${op}: ${types.map(({ shape }) => `(${shape})`).join(", ")}, wanted (N, T, H, d), (N, S, H, d) twice, or (N, T, 3H, d)${attrs.causal ? ", S ≥ T" : ""}`); // biome-ignore format: short
  const scores = [batch, heads, queries, keys];
  for (const [i, dtypes] of [
    [SEEN, ["bool"]],
    [BIAS, FLOATS],
  ] as const) {
    const shape = inputs[i] ? inputType(op, inputs, i, dtypes).shape : scores;
    if (shape.length !== 4 || shape.some((d, axis) => d !== 1 && d !== scores[axis]))
      throw new HeddleError("bad-model", `${op}: a mask of shape (${shape}), wanted one that broadcasts to (${scores})`);
  }
  if (inputs[RANDOM] ? inputType(op, inputs, RANDOM, ["u32"]).shape.join() !== "2" || !(attrs.dropout > 0 && attrs.dropout < 1) : attrs.dropout !== 0)
    throw new HeddleError("bad-model", `${op}: dropout of ${attrs.dropout} with ${inputs[RANDOM] ? `a key of shape (${inputs[RANDOM].type.shape})` : "no key"}, wanted 0 ≤ dropout < 1, and a key of two words where it is not 0`); // biome-ignore format: short
  return { ...attrs, batch, heads, queries, keys, depth, isPacked, dtype: sameDType(op, types) };
}

/** Inputs of the gradient before those of attention: logarithms, the results' gradient, the results. */
const BEFORE = 3;

/** A node of HeadAttention or its gradient: its geometry, what it was given (masks, and a key), and bits of the weights that are kept. */
export function attentionParts(node: Node): {
  readonly g: AttentionGeometry;
  readonly own: Inputs;
  readonly seen: Value | null;
  readonly bias: Value | null;
  readonly key: Value | null;
  readonly bits: Value | null;
} {
  const isGradient = node.op !== HeadAttention;
  const own = isGradient ? node.inputs.slice(BEFORE) : node.inputs;
  const g = geometryOf(node.op.name, own, node.attrs as unknown as HeadAttentionAttrs); // the operators'
  const bits = (isGradient ? own[RANDOM + 1] : node.outputs[2]) ?? null;
  return { g, own, seen: own[SEEN] ?? null, bias: own[BIAS] ?? null, key: own[RANDOM] ?? null, bits };
}

const logsType = ({ batch, heads, queries, dtype }: AttentionGeometry): TensorType => ({
  dtype: dtype === "f64" ? dtype : "f32",
  shape: [batch, heads, queries],
});

/** Scores in words of bits. */
const WORD = 32;
const scoreCount = ({ batch, heads, queries, keys }: AttentionGeometry): number => batch * heads * queries * keys;
const bitsType = (g: AttentionGeometry): TensorType => ({ dtype: "i32", shape: [Math.ceil(scoreCount(g) / WORD)] });

/** What the operators are made of: products of heads. */
class Heads {
  private readonly build: Builder;
  /** (N, H, T or S, d). */
  readonly parts: readonly Value[];
  /** With masks. */
  readonly scores: Value;
  readonly weights: Value;
  /** Booleans of the weights that stay. */
  private readonly kept: Value | null;
  private readonly isMasked: boolean;

  constructor(
    private readonly inputs: Inputs,
    readonly g: AttentionGeometry,
    from: string,
  ) {
    this.build = builder(from);
    const { build } = this;
    this.parts = [0, 1, 2].map((i) => this.turned(g.isPacked ? this.part(inputs[0]!, i) : inputs[i]!)); // checked by infer
    const product = this.product(this.parts[0], this.swapped(this.parts[1]));
    this.isMasked = Boolean(inputs[SEEN] || inputs[BIAS]);
    this.scores = this.isMasked ? this.masked(product) : product;
    this.weights = this.isMasked
      ? build.op(Softmax, [this.scores], { axis: 3 })
      : build.op(ScoreWeights, [product], { causal: g.causal, scale: g.scale });
    this.kept = inputs[RANDOM] ? this.drawn(inputs[RANDOM]) : null;
  }

  private part(x: Value, i: number): Value {
    const { build } = this;
    const { heads } = this.g;
    return build.op("Slice", [x, build.ints(i * heads), build.ints((i + 1) * heads), build.ints(2), build.ints(1)]);
  }
  /** Heads before places, or after them again. */
  turned(x: Value): Value {
    return this.build.transpose(x, [0, 2, 1, 3]);
  }
  swapped(x: Value): Value {
    return this.build.transpose(x, [0, 1, 3, 2]);
  }
  product(a: Value, b: Value): Value {
    return this.build.op(MatMul, [a, b]);
  }
  private number(x: number): Value {
    return this.build.constant(this.g.dtype, x);
  }
  /** Keys behind a query's place are hidden from rows that see no other as well. */
  private masked(product: Value): Value {
    const { build, inputs, g } = this;
    let x = g.scale === 1 ? product : build.op("Mul", [product, this.number(g.scale)]);
    if (inputs[SEEN]) x = build.op("Where", [inputs[SEEN], x, this.number(HIDDEN_SCORE)]);
    if (inputs[BIAS]) x = build.op("Add", [x, build.cast(inputs[BIAS], g.dtype)]);
    return g.causal ? build.op("Where", [seenBefore(build, product.type.shape), x, this.number(Number.NEGATIVE_INFINITY)]) : x;
  }
  private drawn(key: Value): Value {
    const { build, g } = this;
    const { batch, heads, queries, keys } = g;
    const fractions = build.op(RandomWords, [key], { count: scoreCount(g), fractions: 1 });
    return build.op("GreaterOrEqual", [build.reshape(fractions, [batch, heads, queries, keys]), build.constant("f32", g.dropout)]);
  }
  /** As dropout makes them. */
  dropped(x: Value): Value {
    return this.kept ? this.build.op("Where", [this.kept, this.build.op("Div", [x, this.number(1 - this.g.dropout)]), this.number(0)]) : x;
  }
  /** Results, (N, H, T, d). */
  results(): Value {
    return this.product(this.dropped(this.weights), this.parts[2]);
  }
  /** Logarithms of sums of powers. */
  logs(): Value {
    const visible = this.isMasked ? this.scores : hiddenScores(this.build, this.scores, this.g);
    const log = this.build.op("ReduceLogSumExp", [visible, this.build.ints(3)], { keepdims: 0 });
    return this.build.cast(log, logsType(this.g).dtype);
  }
  /** The weights that are kept, 32 in a word, the first in the lowest bit. */
  bits(): Value[] {
    const { build, kept, g } = this;
    if (!kept) return [];
    const [words] = bitsType(g).shape;
    const flat = build.reshape(build.cast(kept, "i32"), [scoreCount(g)]);
    const filled = build.op("Pad", [flat, build.ints(0, words * WORD - scoreCount(g))]);
    const places = build.constant(
      "i32",
      Array.from({ length: WORD }, (_, i) => (1 << i) | 0),
    );
    return [build.op("ReduceSum", [build.op("Mul", [build.reshape(filled, [words, WORD]), places]), build.ints(1)], { keepdims: 0 })];
  }
  /** Of scores behind their factor and masks. */
  private ofScores(dy: Value): Value {
    const { weights, g, build } = this;
    const ofWeights = this.dropped(this.product(this.turned(dy), this.swapped(this.parts[2])));
    return build.op(ScoreWeightsGrad, [weights, ofWeights], this.isMasked ? {} : { causal: g.causal, scale: g.scale });
  }
  /** Gradients of queries, keys and values. */
  gradients(dy: Value): readonly Value[] {
    const { weights, g, build, inputs } = this;
    const [q, k] = this.parts;
    let ofScores = this.ofScores(dy);
    if (inputs[SEEN]) ofScores = build.op("Where", [inputs[SEEN], ofScores, this.number(0)]);
    if (this.isMasked && g.scale !== 1) ofScores = build.op("Mul", [ofScores, this.number(g.scale)]);
    const ofValues = this.product(this.swapped(this.dropped(weights)), this.turned(dy));
    const all = [this.product(ofScores, k), this.product(this.swapped(ofScores), q), ofValues];
    const parts = all.map((x) => this.turned(x));
    return g.isPacked ? [this.build.op("Concat", parts, { axis: 2 })] : parts;
  }
  /** The gradient of what is added to the scores. */
  ofBias(dy: Value, { dtype, shape }: TensorType): Value {
    return this.build.cast(unbroadcast(this.build, this.ofScores(dy), shape), dtype);
  }
}

/** Outputs: sums of values, the logarithms of the sums of powers of scores, (N, H, T), and with dropout bits of the weights that are kept; those of keys that a causal query does not see mean nothing. */
export const HeadAttention: Op = defineOp<HeadAttentionAttrs>({
  name: "HeadAttention",
  kind: "opaque",
  own: true,
  attrs: ATTRS,
  infer(inputs, attrs) {
    const g = geometryOf("HeadAttention", inputs, attrs);
    return [{ dtype: g.dtype, shape: [g.batch, g.queries, g.heads, g.depth] }, logsType(g), ...(inputs[RANDOM] ? [bitsType(g)] : [])];
  },
  expand(inputs, attrs, node) {
    const heads = new Heads(inputs, geometryOf("HeadAttention", inputs, attrs), node.from);
    return [heads.turned(heads.results()), heads.logs(), ...heads.bits()];
  },
  vjp({ build, grad, wants }, { inputs, outputs, attrs, from }) {
    const dy = grad(0);
    if (grad(1) || !dy) return undefined;
    const given = Array.from({ length: outputs[2] ? RANDOM + 1 : inputs.length }, (_, i) => inputs[i] ?? null);
    const own = build.all(HeadAttentionGrad, [outputs[1], dy, outputs[0], ...given, ...outputs.slice(2)], { ...attrs });
    const bias = inputs[BIAS];
    const ofBias = bias && wants(BIAS) ? new Heads(inputs, geometryOf("HeadAttention", inputs, attrs), `${from}:grad`).ofBias(dy, bias.type) : null; // biome-ignore format: short
    return inputs.map((_, i) => (i === BIAS ? ofBias : (own[i] ?? null)));
  },
  flops: ({ inputs, attrs }) => productFlops(geometryOf("HeadAttention", inputs, attrs), 2),
  samples: [
    { inputs: [f32(2, 5, 6, 4)], attrs: { causal: 1, scale: 0.5 } },
    { inputs: [f32(1, 3, 2, 4), f32(1, 7, 2, 4), f32(1, 7, 2, 4)] },
    { inputs: [f32(1, 3, 2, 4), f32(1, 7, 2, 4), f32(1, 7, 2, 4)], attrs: { causal: 1 } },
    { inputs: [f32(2, 5, 6, 4), null, null, bool(2, 1, 1, 5), f32(1, 2, 5, 1)], attrs: { causal: 1, scale: 0.5 } },
    { inputs: [f32(1, 3, 2, 4), f32(1, 7, 2, 4), f32(1, 7, 2, 4), null, f32(1, 2, 3, 7), tensorOf("u32", [7, 9])], attrs: { dropout: 0.3 } }, // biome-ignore format: short
  ],
});

/** Logarithms, the results' gradient, results, what they were computed from, and the bits where there are any → gradients of queries, keys and values. */
export const HeadAttentionGrad: Op = defineOp<HeadAttentionAttrs>({
  name: "HeadAttentionGrad",
  kind: "opaque",
  own: true,
  attrs: ATTRS,
  infer(inputs, attrs) {
    const own = inputs.slice(BEFORE);
    const { isPacked } = geometryOf("HeadAttentionGrad", own, attrs);
    return own.slice(0, isPacked ? 1 : SEEN).map((v) => v!.type); // geometryOf has seen them
  },
  expand(inputs, attrs, node) {
    const own = inputs.slice(BEFORE);
    return new Heads(own, geometryOf("HeadAttentionGrad", own, attrs), node.from).gradients(inputs[1]!); // vjp gives it
  },
  flops: ({ inputs, attrs }) => productFlops(geometryOf("HeadAttentionGrad", inputs.slice(BEFORE), attrs), 5),
  samples: [
    { inputs: [f32(1, 2, 5), f32(1, 5, 2, 4), f32(1, 5, 2, 4), f32(1, 5, 6, 4)], attrs: { causal: 1, scale: 0.5 } },
    { inputs: [f32(1, 2, 3), f32(1, 3, 2, 4), f32(1, 3, 2, 4), f32(1, 3, 2, 4), f32(1, 7, 2, 4), f32(1, 7, 2, 4)] },
    {
      inputs: [
        f32(1, 2, 5),
        f32(1, 5, 2, 4),
        f32(1, 5, 2, 4),
        f32(1, 5, 6, 4),
        null,
        null,
        bool(1, 1, 5, 5),
        null,
        tensorOf("u32", [7, 9]),
      ],
      attrs: { causal: 1, scale: 0.5, dropout: 0.3 },
    },
  ],
});

const productFlops = ({ batch, heads, queries, keys, depth, causal }: AttentionGeometry, products: number): number =>
  (products * 2 * batch * heads * queries * keys * depth) / (causal ? 2 : 1);

export const headAttentionOps: readonly Op[] = [HeadAttention, HeadAttentionGrad];
