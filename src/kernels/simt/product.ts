// What all SIMT products have in common: operands, sizes, tails, and the buffers that a kernel has for them.
import { SimtBuilder, type SimtTarget } from "../../ir/simt.ts";
import type { Operand } from "./operand.ts";
import { type Results, type Tail, TailCode } from "./tail.ts";
import type { ProductSize } from "./tiles.ts";

/** Results (batch, m, n) = left (batch, m, k) · right (batch, k, n), and what follows. */
export interface Product {
  readonly left: Operand;
  /** Its rows are the result's columns. */
  readonly right: Operand;
  readonly batch: number;
  readonly splits: number;
  readonly tail: Tail;
  readonly place: Results["place"];
}

export const sizeOf = ({ left, right, batch, splits }: Product): ProductSize => ({
  batch,
  m: left.rows,
  n: right.rows,
  k: left.depth,
  splits,
});

/** A kernel's buffers: left, right, what the tail reads, the output. */
export interface ProductCode {
  readonly b: SimtBuilder;
  readonly buffers: Readonly<Record<"left" | "right", number>>;
  readonly tail: TailCode;
}

export function productCode(name: string, product: Product, target: SimtTarget): ProductCode {
  const b = new SimtBuilder(name, target);
  const buffer = (side: "left" | "right"): number => b.buffer(side, product[side].dtype, product[side].elements, "read");
  const buffers = { left: buffer("left"), right: buffer("right") };
  const { left, right, batch, splits } = product;
  return { b, buffers, tail: new TailCode(b, product.tail, { batch: batch * splits, m: left.rows, n: right.rows, place: product.place }) };
}
