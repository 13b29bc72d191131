// Attention of ONNX's opset 23 and 24 as the products, masks and softmax that it is made of: the attention pass finds them again where a device has a kernel for all of them.
import { DTYPES, type DType } from "../ir/dtype.ts";
import { HeddleError } from "../ir/error.ts";
import { type AttrSpec, type Builder, defineOp, type Op, type Value } from "../ir/graph.ts";
import type { Shape } from "../ir/tensor.ts";
import { builder } from "./build.ts";
import { bool, FLOATS, f32, inputType, tensorOf } from "./define.ts";
import { MatMul } from "./matmul.ts";
import { Softmax } from "./softmax.ts";

interface AttentionAttrs {
  /** Queries see no keys behind their own place, which is counted from the end of the earlier keys. */
  readonly is_causal: number;
  /** Where tensors have three axes. */
  readonly q_num_heads: number;
  readonly kv_num_heads: number;
  /** The last output: 0 scores, 1 capped ones, 2 with what masks add, 3 weights. */
  readonly qk_matmul_output_mode: number;
  /** Default 1 / √(columns of a head). */
  readonly scale: number | undefined;
  readonly softcap: number;
  /** Type, by ONNX's number, in which the softmax is computed. */
  readonly softmax_precision: number;
}

const int: AttrSpec = { type: "int", default: 0 };

interface Geometry {
  readonly batch: number;
  readonly queries: number;
  /** Earlier keys, and all of them. */
  readonly past: number;
  readonly keys: number;
  readonly heads: number;
  readonly keyHeads: number;
  readonly depth: number;
  readonly width: number;
  /** Whether heads are side by side in the last of three axes. */
  readonly isFlat: boolean;
  readonly dtype: DType;
}

/** (N, H, T, d) of a tensor of four axes, or of three. */
function headShape(shape: Shape, heads: number): Shape {
  if (shape.length === 4) return shape;
  const [batch, places, width] = shape;
  return [batch, heads, places, width / heads];
}

function geometryOf(inputs: readonly (Value | null)[], attrs: AttentionAttrs): Geometry {
  const [q, k, v] = [0, 1, 2].map((i) => inputType("Attention", inputs, i, FLOATS));
  const isFlat = q.shape.length === 3;
  const counts = [attrs.q_num_heads, attrs.kv_num_heads, attrs.kv_num_heads];
  const [a, b, c] = [q, k, v].map(({ shape }, i) => headShape(shape, counts[i]));
  const [pastKey, pastValue] = [4, 5].map((i) => (inputs[i] ? inputType("Attention", inputs, i, FLOATS).shape : null));
  const past = pastKey?.[2] ?? 0;
  const [batch, heads, queries, depth] = a;
  const [, keyHeads, now] = b;
  const isWhole = [a, b, c].every((s) => s.length === 4 && s.every(Number.isInteger)) && Number.isInteger(heads / keyHeads);
  const isRight = b.join() === [batch, keyHeads, now, depth].join() && c.slice(0, 3).join() === b.slice(0, 3).join() && [q, k, v].every(({ shape }) => shape.length === q.shape.length); // biome-ignore format: short
  const isPast = (!pastKey && !pastValue) || (pastKey?.join() === [batch, keyHeads, past, depth].join() && pastValue?.join() === [batch, keyHeads, past, c[3]].join()); // biome-ignore format: short
  if (!isWhole || !isRight || !isPast)
    throw new HeddleError("bad-model", `Attention: ${inputs.map((x) => `(${x?.type.shape ?? ""})`).join(", ")} with ${attrs.q_num_heads} and ${attrs.kv_num_heads} heads are no queries, keys and values`); // biome-ignore format: short
  return { batch, queries, past, keys: past + now, heads, keyHeads, depth, width: c[3], isFlat, dtype: q.dtype };
}

/** The mask must broadcast to (N, H, T, S), of which it may lack the last keys. */
function checkMask(inputs: readonly (Value | null)[], { batch, heads, queries, keys }: Geometry): void {
  if (!inputs[3]) return;
  const { shape } = inputType("Attention", inputs, 3, ["bool", ...FLOATS]);
  const scores = [batch, heads, queries].slice(4 - shape.length);
  const last = shape[shape.length - 1];
  if (shape.length < 2 || shape.length > 4 || last > keys || shape.slice(0, -1).some((d, i) => d !== 1 && d !== scores[i]))
    throw new HeddleError("bad-model", `Attention: the mask is (${shape}), which does not broadcast to (${batch}, ${heads}, ${queries}, ${keys})`); // biome-ignore format: short
}

function softmaxType({ softmax_precision: wanted }: AttentionAttrs, dtype: DType): DType {
  if (!wanted) return dtype;
  const found = FLOATS.find((d) => DTYPES[d].onnx === wanted);
  if (!found) throw new HeddleError("bad-model", `Attention: softmax_precision ${wanted} names no type of floats`);
  return found;
}

/** What masks, places and lengths hide. */
class Masks {
  constructor(
    private readonly build: Builder,
    private readonly g: Geometry,
    private readonly mask: Value | null,
    private readonly lengths: Value | null,
  ) {}

  /** Scores with what the mask adds, −∞ where one of all hides them. */
  applied(scores: Value, isCausal: boolean): Value {
    const { build, g } = this;
    const mask = this.mask && this.padded(this.mask);
    const isAdded = mask && mask.type.dtype !== "bool";
    const sum = isAdded ? build.op("Add", [scores, mask]) : scores;
    const seen = [...(mask && !isAdded ? [mask] : []), ...this.byLength(isCausal)];
    const all = seen.length > 0 ? seen.reduce((a, b) => build.op("And", [a, b])) : null;
    const own = isCausal && !this.followsLength ? this.compared("GreaterOrEqual", g.past) : null;
    return [all, own].reduce<Value>((x, m) => (m ? build.op("Where", [m, x, this.number(Number.NEGATIVE_INFINITY)]) : x), sum);
  }

  /** Queries are the last of an example's keys where these lie in one tensor with room behind them. */
  private get followsLength(): boolean {
    return this.lengths !== null && this.g.past === 0;
  }
  private number(x: number): Value {
    return this.build.constant(this.g.dtype, x);
  }
  /** Whether query number + `more` is compared so with the key's number. */
  private compared(op: string, more: number): Value {
    const { build, g } = this;
    const places = (count: number, from: number, shape: readonly number[]): Value => build.constant("i64", Array.from({ length: count }, (_, i) => from + i), [...shape]); // biome-ignore format: short
    return build.op(op, [places(g.queries, more, [g.queries, 1]), places(g.keys, 0, [g.keys])]);
  }
  /** Keys that are there, of each example, and not behind the query. */
  private byLength(isCausal: boolean): readonly Value[] {
    const { build, g, lengths } = this;
    if (!lengths) return [];
    const each = build.reshape(lengths, [g.batch, 1, 1, 1]);
    const keys = build.constant(
      "i64",
      Array.from({ length: g.keys }, (_, i) => i),
    );
    const isThere = build.op("Less", [keys, each]);
    if (!isCausal || !this.followsLength) return [isThere];
    const ahead = Array.from({ length: g.queries * g.keys }, (_, i) => (i % g.keys) - Math.floor(i / g.keys) + g.queries);
    return [isThere, build.op("LessOrEqual", [build.constant("i64", ahead, [g.queries, g.keys]), each])];
  }
  /** Keys that the mask lacks are hidden. */
  private padded(mask: Value): Value {
    const { build, g } = this;
    const { dtype, shape } = mask.type;
    const missing = g.keys - shape[shape.length - 1];
    if (missing === 0) return mask;
    const value = build.constant(dtype, dtype === "bool" ? 0 : Number.NEGATIVE_INFINITY);
    const pads = [...shape.map(() => 0), ...shape.map((_, i) => (i === shape.length - 1 ? missing : 0))];
    return build.op("Pad", [mask, build.ints(...pads), value]);
  }
}

/** Each head of keys or values as often as queries have heads for it. */
function repeated(build: Builder, x: Value, heads: number): Value {
  const [batch, own, places, columns] = x.type.shape;
  if (own === heads) return x;
  const wide = build.op("Expand", [build.reshape(x, [batch, own, 1, places, columns]), build.ints(batch, own, heads / own, places, columns)]); // biome-ignore format: short
  return build.reshape(wide, [batch, heads, places, columns]);
}

/** Outputs: results, keys and values with the earlier ones, scores. Scores are capped before masks, as the standard's reference does since opset 24. */
const Attention: Op = defineOp<AttentionAttrs>({
  name: "Attention",
  kind: "opaque",
  attrs: {
    is_causal: int,
    q_num_heads: int,
    kv_num_heads: int,
    qk_matmul_output_mode: int,
    scale: { type: "float", optional: true },
    softcap: { type: "float", default: 0 },
    softmax_precision: int,
  },
  infer(inputs, attrs) {
    const g = geometryOf(inputs, attrs);
    checkMask(inputs, g);
    softmaxType(attrs, g.dtype);
    if (inputs[6] && inputType("Attention", inputs, 6, ["i64"]).shape.join() !== `${g.batch}`)
      throw new HeddleError("bad-model", `Attention: lengths are (${inputs[6].type.shape}), wanted (${g.batch})`);
    const { batch, heads, queries, keyHeads, keys, depth, width, dtype } = g;
    const result = g.isFlat ? [batch, queries, heads * width] : [batch, heads, queries, width];
    const shapes = [result, [batch, keyHeads, keys, depth], [batch, keyHeads, keys, width], [batch, heads, queries, keys]];
    return shapes.map((shape) => ({ dtype, shape }));
  },
  expand(inputs, attrs, node) {
    const build = builder(node.from);
    const g = geometryOf(inputs, attrs);
    const heads = (x: Value, count: number): Value => {
      const [batch, , places, columns] = headShape(x.type.shape, count);
      return g.isFlat ? build.transpose(build.reshape(x, [batch, places, count, columns]), [0, 2, 1, 3]) : x;
    };
    const [q, now, nowValue] = [g.heads, g.keyHeads, g.keyHeads].map((count, i) => heads(inputs[i]!, count)); // checked by infer
    const joined = (past: Value | null | undefined, x: Value): Value => (past ? build.op("Concat", [past, x], { axis: 2 }) : x);
    const [k, v] = [joined(inputs[4], now), joined(inputs[5], nowValue)];
    const number = (x: number): Value => build.constant(g.dtype, x);
    const product = build.op(MatMul, [q, build.transpose(repeated(build, k, g.heads), [0, 1, 3, 2])]);
    const scores = build.op("Mul", [product, number(attrs.scale ?? 1 / Math.sqrt(g.depth))]);
    const cap = number(attrs.softcap);
    const capped = attrs.softcap > 0 ? build.op("Mul", [build.op("Tanh", [build.op("Div", [scores, cap])]), cap]) : scores;
    const masked = new Masks(build, g, inputs[3] ?? null, inputs[6] ?? null).applied(capped, attrs.is_causal === 1);
    const wide = build.cast(masked, softmaxType(attrs, g.dtype));
    const weights = build.cast(build.op(Softmax, [wide], { axis: 3 }), g.dtype);
    const y = build.op(MatMul, [weights, repeated(build, v, g.heads)]);
    const result = g.isFlat ? build.reshape(build.transpose(y, [0, 2, 1, 3]), [g.batch, g.queries, g.heads * g.width]) : y;
    const given = [scores, capped, masked, weights][attrs.qk_matmul_output_mode] ?? scores;
    return [result, k, v, given];
  },
  flops: ({ inputs, attrs }) => {
    const { batch, heads, queries, keys, depth, width } = geometryOf(inputs, attrs);
    return 2 * batch * heads * queries * keys * (depth + width);
  },
  samples: [
    { inputs: [f32(2, 2, 3, 4), f32(2, 2, 5, 4), f32(2, 2, 5, 4), f32(3, 4)] },
    { inputs: [f32(2, 3, 8), f32(2, 3, 4), f32(2, 3, 6)], attrs: { q_num_heads: 4, kv_num_heads: 2, is_causal: 1, scale: 0.7 } },
    { inputs: [f32(1, 2, 2, 4), f32(1, 2, 2, 4), f32(1, 2, 2, 3), tensorOf("bool", [1, 0, 1, 1, 0, 1, 1, 1, 1, 1], [2, 5]), f32(1, 2, 3, 4), f32(1, 2, 3, 3)], attrs: { is_causal: 1, softcap: 2, qk_matmul_output_mode: 1 } },
    { inputs: [f32(2, 1, 2, 4), f32(2, 1, 6, 4), f32(2, 1, 6, 4), null, null, null, tensorOf("i64", [4, 6])], attrs: { is_causal: 1, qk_matmul_output_mode: 3 } },
    { inputs: [f32(1, 2, 3, 4), f32(1, 2, 3, 4), f32(1, 2, 3, 4), bool(1, 1, 1, 3)], attrs: { softmax_precision: 11 }, range: [1, 2] },
  ], // biome-ignore format: a table
});

export const attentionOps: readonly Op[] = [Attention];
