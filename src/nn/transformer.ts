// Transformer layers: attention and a small network for each place, each added to what it was given.
import { HeddleError } from "../ir/error.ts";
import type { Tensor } from "../tensor/index.ts";
import { type AttentionOptions, MultiheadAttention } from "./attention.ts";
import { Dropout } from "./dropout.ts";
import { Linear } from "./linear.ts";
import { Module } from "./module.ts";
import { LayerNorm } from "./norm.ts";
import { type Randomness, RandomStream, streamOf } from "./random_stream.ts";

export interface TransformerLayerOptions {
  readonly key: Randomness;
  /** Width of the network for each place. Default: four times the layer's. */
  readonly hidden?: number;
  readonly dropout?: number;
  /** Where dropout draws from. */
  readonly random?: RandomStream;
  /** Whether norms stand before attention and network (GPT) or after their sums. */
  readonly normFirst?: boolean;
  readonly activation?: (x: Tensor) => Tensor;
}

abstract class TransformerLayer extends Module {
  readonly selfAttn: MultiheadAttention;
  readonly linear1: Linear;
  readonly linear2: Linear;
  readonly norm1: LayerNorm;
  readonly norm2: LayerNorm;
  protected readonly drop: Dropout;
  protected readonly normFirst: boolean;
  private readonly activation: (x: Tensor) => Tensor;

  constructor(
    width: number,
    heads: number,
    protected readonly options: TransformerLayerOptions,
    protected readonly stream = streamOf(options.key),
  ) {
    super();
    const { hidden = 4 * width, dropout = 0, random, normFirst = false, activation = (x) => x.relu() } = options;
    if (dropout > 0 && !random)
      throw new HeddleError("bad-argument", "transformer layer: dropout needs a stream to draw from; give it random");
    this.selfAttn = this.makeAttention(width, heads);
    this.linear1 = new Linear(width, hidden, { key: stream });
    this.linear2 = new Linear(hidden, width, { key: stream });
    this.norm1 = new LayerNorm(width);
    this.norm2 = new LayerNorm(width);
    this.drop = new Dropout(dropout, random ?? new RandomStream(0)); // with p = 0 it does not draw
    this.normFirst = normFirst;
    this.activation = activation;
  }

  protected makeAttention(width: number, heads: number): MultiheadAttention {
    const { dropout = 0, random } = this.options;
    return new MultiheadAttention(width, heads, { key: this.stream, dropout, ...(random && { random }) });
  }

  protected feedForward(x: Tensor): Tensor {
    return this.linear2.forward(this.drop.forward(this.activation(this.linear1.forward(x))));
  }

  /** x + f(x), with the norm where it belongs. */
  protected residual(x: Tensor, norm: LayerNorm, f: (x: Tensor) => Tensor): Tensor {
    return this.normFirst ? x.add(this.drop.forward(f(norm.forward(x)))) : norm.forward(x.add(this.drop.forward(f(x))));
  }
}

/** (N, T, width) → (N, T, width). */
export class TransformerEncoderLayer extends TransformerLayer {
  forward(x: Tensor, options: AttentionOptions = {}): Tensor {
    const attended = this.residual(x, this.norm1, (h) => this.selfAttn.forward(h, h, h, options));
    return this.residual(attended, this.norm2, (h) => this.feedForward(h));
  }
}

/** (N, T, width), and what an encoder made of the source (N, S, width) → (N, T, width). Places see none after them. */
export class TransformerDecoderLayer extends TransformerLayer {
  readonly multiheadAttn: MultiheadAttention;
  readonly norm3: LayerNorm;

  constructor(width: number, heads: number, options: TransformerLayerOptions) {
    super(width, heads, options);
    this.multiheadAttn = this.makeAttention(width, heads);
    this.norm3 = new LayerNorm(width);
  }

  forward(x: Tensor, memory: Tensor, options: AttentionOptions = {}): Tensor {
    const own = this.residual(x, this.norm1, (h) => this.selfAttn.forward(h, h, h, { causal: true }));
    const seen = this.residual(own, this.norm2, (h) => this.multiheadAttn.forward(h, memory, memory, options));
    return this.residual(seen, this.norm3, (h) => this.feedForward(h));
  }
}
