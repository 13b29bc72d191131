// Attention: queries (…, T, d), keys and values (…, S, d) → sums of values by how well keys match (Vaswani et al. 2017).
import { HeddleError } from "../ir/error.ts";
import { arange, dropout, headAttention, type Key, Parameter, scoreWeights, type Tensor, zeros } from "../tensor/index.ts";
import { xavierUniform } from "./init.ts";
import { Linear, linear } from "./linear.ts";
import { Module } from "./module.ts";
import { drawKeys, type Randomness, type RandomStream } from "./random_stream.ts";

export interface AttentionOptions {
  /** Booleans that broadcast to (…, T, S): which keys each query sees. */
  readonly mask?: Tensor;
  /** Whether queries see no keys after their own place. */
  readonly causal?: boolean;
  /** Added to the scores: broadcasts to (…, T, S). */
  readonly bias?: Tensor;
}
interface Dropping {
  /** Probability, and a key, of weights that are dropped. */
  readonly dropout?: { readonly p: number; readonly key: Key };
}

/** Far below every score, and not infinite: a row without any key gives a mean, not NaN. */
const HIDDEN = -1e9;

/** softmax(q · kᵀ / √d) · v. */
export function attention(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  { mask, causal = false, bias, dropout: drop }: AttentionOptions & Dropping = {},
): Tensor {
  const [t, s] = [q.shape.at(-2)!, k.shape.at(-2)!]; // rank 2 or more, or matmul refuses
  const root = Math.sqrt(q.shape.at(-1)!);
  if (!bias && !mask && !drop && (!causal || s >= t))
    return scoreWeights(q.matmul(k.swapAxes(-1, -2)), { causal, scale: 1 / root }).matmul(v);
  let scores: Tensor = q.div(root).matmul(k.swapAxes(-1, -2));
  if (bias) scores = scores.add(bias);
  if (causal) scores = places(t).unsqueeze(1).add(s - t).ge(places(s)).where(scores, HIDDEN); // biome-ignore format: a formula
  if (mask) scores = mask.where(scores, HIDDEN);
  const weights = scores.softmax(-1);
  return (drop ? dropout(weights, drop.key, drop.p) : weights).matmul(v);
}

const places = (count: number): Tensor => arange(count, undefined, 1, "i32");

export interface MultiheadAttentionOptions {
  readonly key: Randomness;
  readonly bias?: boolean;
  /** Of the attention weights; `random` is where it draws from. */
  readonly dropout?: number;
  readonly random?: RandomStream;
}

/** (N, T, width), as `batch_first` in PyTorch. */
export class MultiheadAttention extends Module {
  readonly inProjWeight: Parameter;
  readonly inProjBias: Parameter | null;
  readonly outProj: Linear;
  private readonly p: number;
  private readonly random: RandomStream | null;

  constructor(
    private readonly width: number,
    private readonly heads: number,
    { key, bias = true, dropout: p = 0, random }: MultiheadAttentionOptions,
  ) {
    super();
    if (width % heads !== 0) throw new HeddleError("bad-argument", `MultiheadAttention: ${width} does not make ${heads} equal heads`);
    if (p > 0 && !random) throw new HeddleError("bad-argument", "MultiheadAttention: dropout needs a stream to draw from; give it random");
    const [forIn, forOut] = drawKeys(key, 2);
    this.inProjWeight = new Parameter(xavierUniform(forIn, [3 * width, width]));
    this.inProjBias = bias ? new Parameter(zeros([3 * width])) : null;
    this.outProj = new Linear(width, width, { key: forOut, bias });
    if (this.outProj.bias) this.outProj.bias.value = zeros([width]);
    this.p = p;
    this.random = random ?? null;
  }

  forward(query: Tensor, key = query, value = key, options: AttentionOptions = {}): Tensor {
    const operands = this.project(query, key, value);
    const drop = this.training && this.p > 0 && this.random ? { dropout: { p: this.p, key: this.random.next() } } : {};
    const all = { ...options, ...drop, scale: 1 / Math.sqrt(this.width / this.heads) };
    const isOne = !options.causal || key.shape[1] >= query.shape[1];
    const attended = isOne ? headAttention(operands, all) : this.attend(operands, all);
    return this.outProj.forward(attended.reshape(query.shape));
  }

  /** Heads before places, as masks are, and after them again. */
  private attend(operands: readonly Tensor[], options: AttentionOptions & Dropping): Tensor {
    const parts = operands.length === 1 ? operands[0].split(3, 2) : operands;
    const [q, k, v] = parts.map((x) => x.transpose([0, 2, 1, 3]));
    return attention(q, k, v, options).transpose([0, 2, 1, 3]); // biome-ignore format: a formula
  }

  /** Each as (N, T, heads, width / heads); one tensor for all, their heads side by side, where they come from one. */
  private project(query: Tensor, key: Tensor, value: Tensor): [Tensor] | [Tensor, Tensor, Tensor] {
    const [weight, bias] = [this.inProjWeight.value, this.inProjBias?.value];
    const part = (x: Tensor, i: number) => {
      const rows = [i * this.width, (i + 1) * this.width] as const;
      return this.byHeads(linear(x, weight.slice(rows), bias?.slice(rows)));
    };
    const isOne = query === key && key === value;
    return isOne ? [this.byHeads(linear(query, weight, bias))] : [part(query, 0), part(key, 1), part(value, 2)];
  }

  /** (N, T, widths) → (N, T, heads, width / heads). */
  private byHeads(x: Tensor): Tensor {
    return x.reshape([x.shape[0], x.shape[1], -1, this.width / this.heads]);
  }
}
