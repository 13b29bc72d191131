// A decoder-only Transformer: tokens (N, T) → logits of the token after each (N, T, vocabulary).
import { HeddleError } from "../../src/ir/error.ts";
import { Dropout, Embedding, init, LayerNorm, Module, RandomStream, TransformerEncoderLayer } from "../../src/nn/index.ts";
import { fromArray, type Parameter, type Tensor } from "../../src/tensor/index.ts";

export interface GptOptions {
  readonly vocabulary: number;
  /** Tokens that it sees at a time. */
  readonly context: number;
  readonly width: number;
  readonly heads: number;
  readonly layers: number;
  readonly dropout: number;
}

/** Standard deviation of first weights, as in GPT-2. */
const DEVIATION = 0.02;
/** Far below every score: what lies ahead gets no weight. */
const HIDDEN = -1e9;

/** Pre-norm layers; the table of tokens is also the last layer's; places are told apart by how far they lie back (ALiBi). */
export class Gpt extends Module {
  readonly wte: Embedding;
  readonly h: readonly TransformerEncoderLayer[];
  readonly lnF: LayerNorm;
  /** Where dropout is in its random numbers: part of the state dict, so that a run goes on as it would have. */
  readonly randomState: Parameter;
  private readonly drop: Dropout;

  constructor(
    readonly options: GptOptions,
    seed: number,
  ) {
    super();
    const { vocabulary, width, heads, layers, dropout } = options;
    const key = new RandomStream(seed);
    const random = new RandomStream(seed + 1);
    this.randomState = random.state;
    this.wte = new Embedding(vocabulary, width, { key, deviation: DEVIATION });
    const layer = { key, dropout, random, normFirst: true, activation: (x: Tensor) => x.gelu("tanh") };
    this.h = Array.from({ length: layers }, () => new TransformerEncoderLayer(width, heads, layer));
    for (const { selfAttn, linear2 } of this.h)
      for (const { weight } of [selfAttn.outProj, linear2])
        weight.value = init.normal(key.next(), weight.shape, DEVIATION / Math.sqrt(2 * layers)); // sums over layers keep their size
    this.lnF = new LayerNorm(width);
    this.drop = new Dropout(dropout, random);
  }

  /** (N, T) → (N, T, width). */
  private features(tokens: Tensor): Tensor {
    const { context, heads, layers } = this.options;
    const length = tokens.shape[1];
    if (length > context) throw new HeddleError("bad-argument", `Gpt: ${length} tokens, its context holds ${context}`);
    const bias = distanceBias(heads, length);
    let x = this.drop.forward(this.wte.forward(tokens));
    for (let i = 0; i < layers; i++) x = this.h[i].forward(x, { bias });
    return this.lnF.forward(x);
  }

  forward(tokens: Tensor): Tensor {
    return this.features(tokens).matmul(this.wte.weight.value.transpose());
  }

  /** Logits (vocabulary) of what follows the token at one place (a scalar) of one row (1, T). */
  next(tokens: Tensor, place: Tensor): Tensor {
    const row = this.features(tokens).squeeze(0).gather(place, 0);
    return this.wte.weight.value.matmul(row);
  }
}

/** Attention with linear biases (Press et al. 2022): each head looks back less far than the one before. (heads, T, T). */
function distanceBias(heads: number, length: number): Tensor {
  const bias = new Float32Array(heads * length * length);
  for (let head = 0, at = 0; head < heads; head++) {
    const slope = 2 ** ((-8 * (head + 1)) / heads);
    for (let i = 0; i < length; i++) for (let j = 0; j < length; j++) bias[at++] = j > i ? HIDDEN : slope * (j - i);
  }
  return fromArray(bias, [heads, length, length]);
}
