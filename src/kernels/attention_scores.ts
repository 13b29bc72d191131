// What is done to a block of scores before its softmax, queries in lanes: a cap, masks, and keys behind a query's place.
import { type Int, type KernelBuilder, plus, times, type Vec } from "../ir/kernel.ts";
import { MEMORY_BYTES } from "../ir/kernel_ops.ts";
import { vectorFn } from "../lower/vector_math.ts";
import { type AttentionBuffers, type AttentionShape, LEAST, type MaskPlaces } from "./attention_shape.ts";
import { transposeTile } from "./transpose_tile.ts";

/** The queries of a tile, and the heads that they and their keys are of. */
export interface TilePlace {
  readonly batch: Int;
  readonly head: Int;
  readonly ofKeys: Int;
  /** The first one. */
  readonly query: Int;
  /** So many, in so many vectors. */
  readonly rows: number;
  readonly vectors: number;
}

/** Keys from `base`: `count` of `size` at most. */
export interface KeyBlock {
  readonly base: Int;
  readonly size: number;
  readonly count: Int;
}

/** Where things are in scratch memory, in bytes. */
export interface ScratchPlaces {
  /** Scores of a block, key after key. */
  readonly scores: number;
  /** The largest of a block, for each query. */
  readonly blockTop: number;
  /** Masks of a block, as scores lie. */
  readonly masks: number;
}

const isTurned = (mask: MaskPlaces | null): boolean => mask !== null && mask.query !== 0;

export class ScoreChanges {
  /** Whether scores change wherever they are, and not only where places are compared. */
  readonly isEverywhere: boolean;
  private readonly lanes: number;

  constructor(
    private readonly b: KernelBuilder,
    private readonly shape: AttentionShape,
    private readonly buffers: AttentionBuffers,
    private readonly places: ScratchPlaces,
    /** Bytes of a mask of a block. */
    private readonly maskBytes: number,
  ) {
    this.isEverywhere = shape.cap > 0 || shape.seen !== null || shape.bias !== null;
    this.lanes = b.lanes;
  }

  /** Masks that are turned around before they are applied. */
  static turnedMasks = ({ seen, bias }: AttentionShape): number => [seen, bias].filter(isTurned).length;

  /** Changes a block's scores, and says what the largest are then. */
  apply(at: TilePlace, block: KeyBlock): void {
    const { b, shape, places, buffers, lanes } = this;
    const { scratch } = buffers;
    for (const name of ["seen", "bias"] as const) if (isTurned(shape[name])) this.turn(name, at, block);
    const tops = Array.from({ length: at.vectors }, () => b.f32(LEAST));
    b.loop(0, block.count, 1, (key) => {
      for (const [v, top] of tops.entries()) {
        const place = plus(times(key, at.vectors * lanes * 4), v * lanes * 4);
        const score = this.changed(b.load(scratch, plus(place, places.scores)), at, block, key, v);
        b.store(score, scratch, plus(place, places.scores));
        b.op("max", top, score, undefined, top);
      }
    });
    for (const [v, top] of tops.entries()) b.store(top, scratch, places.blockTop + v * lanes * 4);
  }

  private changed(x: Vec, at: TilePlace, block: KeyBlock, key: Int, v: number): Vec {
    const { b, shape, lanes } = this;
    const { cap, seen, bias, hidden, before } = shape;
    let score = x;
    if (cap > 0) score = b.op("mul", vectorFn(b, "tanh", b.op("mul", score, b.f32(1 / cap))), b.f32(cap));
    if (seen) score = b.op("select", b.f32(hidden), score, b.op("ieq", this.mask("seen", seen, at, block, key, v), b.i32(0)));
    if (bias) score = b.op("add", score, this.mask("bias", bias, at, block, key, v));
    if (before < 0) return score;
    const last = b.iota(plus(at.query, before, v * lanes));
    const own = b.iota(plus(block.base, key), 0);
    return b.op("select", b.f32(Number.NEGATIVE_INFINITY), score, b.op("ilt", last, own));
  }

  /** A mask's numbers for a key and a vector of queries. */
  private mask(name: "seen" | "bias", mask: MaskPlaces, at: TilePlace, block: KeyBlock, key: Int, v: number): Vec {
    const { b, lanes, buffers } = this;
    if (!isTurned(mask)) {
      const place = plus(this.firstOf(mask, at), times(plus(block.base, key), mask.key));
      return b.splat(buffers[name], times(place, MEMORY_BYTES[mask.type]), mask.type);
    }
    return b.load(buffers.scratch, plus(this.turnedAt(name), times(key, at.vectors * lanes * 4), v * lanes * 4));
  }
  private turnedAt(name: "seen" | "bias"): number {
    return this.places.masks + (name === "bias" && isTurned(this.shape.seen) ? this.maskBytes : 0);
  }
  /** Place of the first query's first key. */
  private firstOf(mask: MaskPlaces, at: TilePlace): Int {
    return plus(times(at.batch, mask.batch), times(at.head, mask.head), times(at.query, mask.query));
  }

  /** Copies the mask of a block so that queries are in lanes. */
  private turn(name: "seen" | "bias", at: TilePlace, { base, size }: KeyBlock): void {
    const { b, shape, lanes, buffers } = this;
    const mask = shape[name]!; // the caller has looked
    const bytes = MEMORY_BYTES[mask.type];
    const first = plus(this.firstOf(mask, at), times(base, mask.key));
    const chunk = (key: Int, count: number): void => {
      for (let v = 0; v < at.vectors; v++) {
        const rows = Array.from({ length: lanes }, (_, i) => {
          const row = v * lanes + i;
          if (row >= at.rows) return b.f32(0);
          const place = times(plus(first, row * mask.query, times(key, mask.key)), bytes);
          return mask.key === 0 ? b.splat(buffers[name], place, mask.type) : b.load(buffers[name], place, count, mask.type);
        });
        for (const [i, column] of transposeTile(b, rows).slice(0, count).entries())
          b.store(column, buffers.scratch, plus(times(plus(key, i), at.vectors * lanes * 4), this.turnedAt(name) + v * lanes * 4));
      }
    };
    const whole = size - (size % lanes);
    if (whole > 0) b.loop(0, whole, lanes, (key) => chunk(key, lanes));
    if (whole < size) chunk(whole, size - whole);
  }
}
