// Rows whose elements 32 threads hold in registers: loads and stores by vectors, sums that all of them get.
import type { DType } from "../../ir/dtype.ts";
import { exchange, float, fn, type Reg, type SimtBuilder, select, sum, thread } from "../../ir/simt.ts";
import { convertRegister } from "../../lower/simt_scalar.ts";

/** Threads of a row, and rows of a workgroup at a time. */
export const LANES = 32;
export const LINES = 4;

/** A row's elements, spread over threads by vectors. */
export class Lanes {
  private readonly run: 1 | 2 | 4;
  private readonly count: number;
  /** Memory for sums, where threads do not see each other's registers. */
  private readonly array: number | null;

  constructor(
    private readonly b: SimtBuilder,
    private readonly width: number,
    private readonly lane: Reg,
  ) {
    this.run = width % (4 * LANES) === 0 ? 4 : width % (2 * LANES) === 0 ? 2 : 1;
    this.count = Math.ceil(width / (this.run * LANES));
    this.array = b.target.subgroup === LANES ? null : b.array("f32", LANES * LINES);
  }

  /** Elements of a thread. */
  get own(): number {
    return this.run * this.count;
  }
  /** Whether the last elements are beyond the row. */
  private get isRagged(): boolean {
    return this.width % (this.run * LANES) !== 0;
  }
  private first(piece: number): Reg {
    return this.b.let(fn("mul", sum(this.lane, piece * LANES), this.run));
  }

  load(buffer: number, from: Reg, outside: Reg): Reg[] {
    const { b, run, count, isRagged, width } = this;
    return Array.from({ length: count }, (_, p) => {
      const at = this.first(p);
      if (run > 1) return b.loadVector({ k: "buffer", number: buffer }, b.let(sum(from, at)), run as 2 | 4);
      const inside = fn("lt", at, width);
      const value = b.load(buffer, sum(from, isRagged ? fn("min", at, width - 1) : at));
      return [b.let(isRagged ? select(inside, value, outside) : value)];
    }).flat();
  }
  store(buffer: number, dtype: DType, from: Reg, values: readonly Reg[]): void {
    const { b, run } = this;
    this.pieces((at, p) => {
      const own = values.slice(p * run, (p + 1) * run);
      if (run > 1) b.storeVector({ k: "buffer", number: buffer }, b.let(sum(from, at)), own);
      else b.store(buffer, sum(from, at), convertRegister(dtype, "f32", own[0]));
    });
  }
  /** Elements beyond the row are 0. */
  masked(values: readonly Reg[]): readonly Reg[] {
    return this.isRagged ? values.map((v, i) => select(fn("lt", this.first(i), this.width), v, float(0))) : values;
  }
  /** Places of all elements that are in the row. */
  each(use: (at: Reg, i: number) => void): void {
    this.pieces((at, p) => {
      for (let e = 0; e < this.run; e++) use(sum(at, e), p * this.run + e);
    });
  }
  private pieces(use: (at: Reg, piece: number) => void): void {
    for (let p = 0; p < this.count; p++) {
      const at = this.first(p);
      if (this.isRagged) this.b.when(fn("lt", at, this.width), () => use(at, p));
      else use(at, p);
    }
  }

  /** The sum of what a row's threads hold, which all of them get. */
  total(values: readonly Reg[]): Reg {
    const { array, b, lane } = this;
    let all = b.let(values.reduce((s, v) => fn("add", s, v)));
    for (let by = LANES / 2; by >= 1; by /= 2) {
      if (array === null) {
        all = b.let(fn("add", all, b.let(exchange(all, by))));
        continue;
      }
      b.storeShared(array, thread(), all);
      b.barrier();
      const other = sum(fn("sub", thread(), lane), fn("xor", lane, by));
      all = b.let(fn("add", all, b.loadShared(array, other)));
      b.barrier();
    }
    return all;
  }
}
