// HeadAttention: attention of heads that lie side by side, queries (N, T, H, d), keys and values (N, S, H, d) → (N, T, H, d); and its gradient.
import { HeddleError } from "../ir/error.ts";
import { type AttrSpec, type Builder, defineOp, type Node, type Op, type TensorType, type Value } from "../ir/graph.ts";
import { builder } from "./build.ts";
import { FLOATS, f32, inputType, sameDType } from "./define.ts";
import { MatMul } from "./matmul.ts";
import { hiddenScores, ScoreWeights, ScoreWeightsGrad } from "./score_weights.ts";

interface HeadAttentionAttrs {
  /** Query i of T sees keys 0 to i + S − T of S; S is at least T. */
  readonly causal: number;
  /** What scores are multiplied by. */
  readonly scale: number;
}

const ATTRS: Readonly<Record<keyof HeadAttentionAttrs, AttrSpec>> = {
  causal: { type: "int", default: 0 },
  scale: { type: "float", default: 1 },
};

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

/** Of one input or three. */
function geometryOf(op: string, inputs: readonly (Value | null)[], attrs: HeadAttentionAttrs): AttentionGeometry {
  const isPacked = inputs.length === 1;
  const types = (isPacked ? [0] : [0, 1, 2]).map((i) => inputType(op, inputs, i, FLOATS));
  const [[batch, queries, all, depth], [, keys] = types[0].shape] = types.map((t) => t.shape);
  const heads = isPacked ? all / 3 : all;
  const want = isPacked ? [[batch, queries, all, depth]] : [types[0].shape, ...[1, 2].map(() => [batch, keys, heads, depth])];
  const isRight = types.every(({ shape }, i) => shape.length === 4 && shape.join() === want[i].join()) && Number.isInteger(heads);
  if (!isRight || (attrs.causal && keys < queries))
    throw new HeddleError("bad-model", `${op}: ${types.map(({ shape }) => `(${shape})`).join(", ")}, wanted (N, T, H, d), (N, S, H, d) twice, or (N, T, 3H, d)${attrs.causal ? ", S ≥ T" : ""}`); // biome-ignore format: short
  return { ...attrs, batch, heads, queries, keys, depth, isPacked, dtype: sameDType(op, types) };
}

/** Inputs of the gradient before those of attention: logarithms, the results' gradient, the results. */
const BEFORE = 3;

/** Of a node of HeadAttention or its gradient. */
export const attentionGeometry = (node: Node): AttentionGeometry =>
  geometryOf(
    node.op.name,
    node.op === HeadAttention ? node.inputs : node.inputs.slice(BEFORE),
    node.attrs as unknown as HeadAttentionAttrs,
  ); // the operators'

const logsType = ({ batch, heads, queries, dtype }: AttentionGeometry): TensorType => ({
  dtype: dtype === "f64" ? dtype : "f32",
  shape: [batch, heads, queries],
});

/** What the operators are made of: products of heads. */
class Heads {
  private readonly build: Builder;
  /** (N, H, T or S, d). */
  readonly parts: readonly Value[];
  readonly scores: Value;
  readonly weights: Value;

  constructor(
    inputs: readonly (Value | null)[],
    readonly g: AttentionGeometry,
    from: string,
  ) {
    this.build = builder(from);
    this.parts = [0, 1, 2].map((i) => this.turned(g.isPacked ? this.part(inputs[0]!, i) : inputs[i]!)); // checked by infer
    this.scores = this.product(this.parts[0], this.swapped(this.parts[1]));
    this.weights = this.build.op(ScoreWeights, [this.scores], { causal: g.causal, scale: g.scale });
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
  /** Logarithms of sums of powers. */
  logs(): Value {
    const visible = hiddenScores(this.build, this.scores, this.g);
    const log = this.build.op("ReduceLogSumExp", [visible, this.build.ints(3)], { keepdims: 0 });
    return this.build.cast(log, logsType(this.g).dtype);
  }
  /** Gradients of queries, keys and values. */
  gradients(dy: Value): readonly Value[] {
    const { weights, g } = this;
    const [q, k, v] = this.parts;
    const turned = this.turned(dy);
    const ofWeights = this.product(turned, this.swapped(v));
    const ofScores = this.build.op(ScoreWeightsGrad, [weights, ofWeights], { causal: g.causal, scale: g.scale });
    const all = [this.product(ofScores, k), this.product(this.swapped(ofScores), q), this.product(this.swapped(weights), turned)];
    const parts = all.map((x) => this.turned(x));
    return g.isPacked ? [this.build.op("Concat", parts, { axis: 2 })] : parts;
  }
}

/** Outputs: sums of values, and the logarithms of the sums of powers of scores, (N, H, T). */
export const HeadAttention: Op = defineOp<HeadAttentionAttrs>({
  name: "HeadAttention",
  kind: "opaque",
  own: true,
  attrs: ATTRS,
  infer(inputs, attrs) {
    const g = geometryOf("HeadAttention", inputs, attrs);
    return [{ dtype: g.dtype, shape: [g.batch, g.queries, g.heads, g.depth] }, logsType(g)];
  },
  expand(inputs, attrs, node) {
    const heads = new Heads(inputs, geometryOf("HeadAttention", inputs, attrs), node.from);
    return [heads.turned(heads.product(heads.weights, heads.parts[2])), heads.logs()];
  },
  vjp({ build, grad }, { inputs, outputs, attrs }) {
    if (grad(1)) return undefined;
    return build.all(HeadAttentionGrad, [outputs[1], grad(0), outputs[0], ...inputs], { ...attrs });
  },
  flops: ({ inputs, attrs }) => productFlops(geometryOf("HeadAttention", inputs, attrs), 2),
  samples: [
    { inputs: [f32(2, 5, 6, 4)], attrs: { causal: 1, scale: 0.5 } },
    { inputs: [f32(1, 3, 2, 4), f32(1, 7, 2, 4), f32(1, 7, 2, 4)] },
    { inputs: [f32(1, 3, 2, 4), f32(1, 7, 2, 4), f32(1, 7, 2, 4)], attrs: { causal: 1 } },
  ],
});

/** Logarithms, the results' gradient, results and what they were computed from → gradients of those inputs. */
export const HeadAttentionGrad: Op = defineOp<HeadAttentionAttrs>({
  name: "HeadAttentionGrad",
  kind: "opaque",
  own: true,
  attrs: ATTRS,
  infer(inputs, attrs) {
    geometryOf("HeadAttentionGrad", inputs.slice(BEFORE), attrs);
    return inputs.slice(BEFORE).map((v) => v!.type); // geometryOf has seen them
  },
  expand(inputs, attrs, node) {
    const own = inputs.slice(BEFORE);
    return new Heads(own, geometryOf("HeadAttentionGrad", own, attrs), node.from).gradients(inputs[1]!); // vjp gives it
  },
  flops: ({ inputs, attrs }) => productFlops(geometryOf("HeadAttentionGrad", inputs.slice(BEFORE), attrs), 5),
  samples: [
    { inputs: [f32(1, 2, 5), f32(1, 5, 2, 4), f32(1, 5, 2, 4), f32(1, 5, 6, 4)], attrs: { causal: 1, scale: 0.5 } },
    { inputs: [f32(1, 2, 3), f32(1, 3, 2, 4), f32(1, 3, 2, 4), f32(1, 3, 2, 4), f32(1, 7, 2, 4), f32(1, 7, 2, 4)] },
  ],
});

const productFlops = ({ batch, heads, queries, keys, depth, causal }: AttentionGeometry, products: number): number =>
  (products * 2 * batch * heads * queries * keys * depth) / (causal ? 2 : 1);

export const headAttentionOps: readonly Op[] = [HeadAttention, HeadAttentionGrad];
