// What a kernel of attention on CPUs is made for: sizes, masks, where heads lie in memory, and the buffers that it is given.
import type { KernelBuilder } from "../ir/kernel.ts";
import { MEMORY_BYTES, type MemoryType } from "../ir/kernel_ops.ts";

/** Where element (batch, head, place, column) lies, in elements: `from` and so many for each; columns are neighbours. */
export interface HeadPlaces {
  readonly elements: number;
  readonly from: number;
  readonly batch: number;
  readonly head: number;
  readonly place: number;
}

/** The same of a mask, whose last axis is keys: their stride is 1, or 0 where one is for all. */
export interface MaskPlaces {
  readonly type: MemoryType;
  readonly elements: number;
  readonly batch: number;
  readonly head: number;
  readonly query: number;
  readonly key: number;
}

/** What attention has to compute, wherever its operands lie. */
export interface AttentionSizes {
  readonly batch: number;
  /** Of keys and values; each has `group` heads of queries. */
  readonly heads: number;
  readonly group: number;
  readonly queries: number;
  readonly keys: number;
  /** Columns of queries and keys, and of values. */
  readonly depth: number;
  readonly width: number;
  readonly scale: number;
  /** Scores are kept between ± cap by a hyperbolic tangent; 0: they are not. */
  readonly cap: number;
}

export interface AttentionShape extends AttentionSizes {
  /** Query i sees keys 0 to i + before; −1: all. */
  readonly before: number;
  /** Which scores stay as they are, what the others become, and what is added then. */
  readonly seen: MaskPlaces | null;
  readonly hidden: number;
  readonly bias: MaskPlaces | null;
  readonly q: HeadPlaces;
  readonly k: HeadPlaces;
  readonly v: HeadPlaces;
  readonly out: HeadPlaces;
}

/** The least finite float: at least that is subtracted from scores, so that powers of −∞ are 0 where no score is larger. */
export const LEAST = -3.4028234663852886e38;

/** Numbers of the buffers of a kernel of attention. */
export interface AttentionBuffers {
  readonly q: number;
  readonly k: number;
  readonly v: number;
  readonly seen: number;
  readonly bias: number;
  readonly out: number;
  readonly scratch: number;
}

/** Buffers: queries, keys, values, the masks that there are, output. */
export function attentionBuffers(b: KernelBuilder, shape: AttentionShape, scratchBytes: number): AttentionBuffers {
  const [q, k, v] = (["q", "k", "v"] as const).map((name) => b.buffer(name, 4 * shape[name].elements, "read"));
  const [seen, bias] = (["seen", "bias"] as const).map((name) => {
    const mask = shape[name];
    return mask ? b.buffer(name, MEMORY_BYTES[mask.type] * mask.elements, "read") : -1;
  });
  const out = b.buffer("out", 4 * shape.out.elements, "write");
  return { q, k, v, seen, bias, out, scratch: b.buffer("scratch", scratchBytes, "scratch") };
}
