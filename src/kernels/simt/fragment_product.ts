// Matrix products on matrix units: a ring of tiles filled by asynchronous copies, fragments one step ahead of the products, float32 sums.
import { DTYPES } from "../../ir/dtype.ts";
import { invariant } from "../../ir/error.ts";
import {
  FRAGMENT,
  type Fragment,
  fn,
  int,
  type Reg,
  type SharedArray,
  type SimtBuilder,
  type SimtKernel,
  type SimtTarget,
  select,
  sum,
  thread,
} from "../../ir/simt.ts";
import type { Operand } from "./operand.ts";
import { type Product, productCode, sizeOf } from "./product.ts";
import { Share, type Take } from "./share.ts";
import { tiling } from "./tiles.ts";

/** Tiles of bm × bn × bk, `stages` of them in shared memory; a subgroup of 32 threads multiplies wm × wn of them. */
export interface FragmentSchedule {
  readonly bm: number;
  readonly bn: number;
  readonly bk: number;
  readonly wm: number;
  readonly wn: number;
  readonly stages: number;
  /** Subgroups that have the same sums, each of its part of a tile's depth, and add them up at last: where there are few tiles. */
  readonly slices?: number;
  /** Measured on an H200 with float32: of a workgroup's start and end, and for 16 of a slice's depth, alone on its multiprocessor and with each of many. */
  readonly cycles?: { readonly start: number; readonly alone: number; readonly shared: number };
}

/** From large to small. */
const SCHEDULES: readonly FragmentSchedule[] = [
  { bm: 256, bn: 128, bk: 64, wm: 64, wn: 64, stages: 3 },
  { bm: 128, bn: 256, bk: 64, wm: 64, wn: 64, stages: 3 },
  { bm: 128, bn: 256, bk: 32, wm: 64, wn: 64, stages: 4 },
  { bm: 128, bn: 128, bk: 64, wm: 64, wn: 64, stages: 3 },
  { bm: 128, bn: 128, bk: 64, wm: 64, wn: 32, stages: 3 },
  { bm: 128, bn: 128, bk: 32, wm: 64, wn: 64, stages: 4 },
  { bm: 128, bn: 128, bk: 32, wm: 64, wn: 32, stages: 4 },
  { bm: 128, bn: 64, bk: 64, wm: 32, wn: 32, stages: 4 },
  { bm: 64, bn: 64, bk: 64, wm: 32, wn: 32, stages: 4 },
  { bm: 32, bn: 32, bk: 64, wm: 16, wn: 16, stages: 4 },
];

/** Of float32: with the most sums of a subgroup first. */
const F32_SCHEDULES: readonly FragmentSchedule[] = [
  { bm: 128, bn: 64, bk: 32, wm: 64, wn: 32, stages: 3, cycles: { start: 8600, alone: 1110, shared: 1035 } },
  { bm: 128, bn: 32, bk: 32, wm: 32, wn: 32, stages: 3, cycles: { start: 6200, alone: 660, shared: 575 } },
  { bm: 64, bn: 64, bk: 32, wm: 32, wn: 32, stages: 3, cycles: { start: 5850, alone: 615, shared: 550 } },
  { bm: 64, bn: 32, bk: 64, wm: 32, wn: 32, stages: 2, slices: 2, cycles: { start: 5300, alone: 700, shared: 610 } },
  { bm: 64, bn: 32, bk: 32, wm: 32, wn: 16, stages: 4, cycles: { start: 5200, alone: 335, shared: 338 } },
  { bm: 32, bn: 32, bk: 32, wm: 16, wn: 16, stages: 4, cycles: { start: 3800, alone: 265, shared: 223 } },
  { bm: 32, bn: 32, bk: 64, wm: 16, wn: 16, stages: 3, slices: 2, cycles: { start: 3970, alone: 402, shared: 423 } },
  { bm: 16, bn: 32, bk: 128, wm: 16, wn: 16, stages: 3, slices: 4, cycles: { start: 3900, alone: 460, shared: 570 } },
];

/** Where copies are held in registers, one stage does: the next tile waits there. */
const HELD_SCHEDULES: readonly FragmentSchedule[] = [
  { bm: 256, bn: 128, bk: 32, wm: 64, wn: 64, stages: 1 },
  { bm: 128, bn: 128, bk: 64, wm: 64, wn: 32, stages: 1 },
  { bm: 128, bn: 128, bk: 32, wm: 64, wn: 32, stages: 1 },
  { bm: 64, bn: 64, bk: 64, wm: 32, wn: 32, stages: 1 },
  { bm: 32, bn: 32, bk: 64, wm: 16, wn: 16, stages: 1 },
];

const SUBGROUP = 32;
/** Bytes of an asynchronous copy. */
const LEAST_COPY = 4;
/** Elements more in each line: what a fragment is loaded of then lies in different banks, be it eight lines of 16 bytes or, of float32 across the depth, four lines of eight elements. */
const padOf = ({ along, dtype }: Operand): number => (dtype === "f32" && along === "depth" ? 4 : 8);
const bytesPer = ({ dtype }: Operand): number => DTYPES[dtype].bytes;
/** The same for lines of sums. */
const SUM_PAD = 8;

/** Elements of a tile in shared memory: lines along the axis that is contiguous in memory. */
const lineOf = (o: Operand, rows: number, depth: number): number => (o.along === "depth" ? depth : rows) + padOf(o);
const linesOf = ({ along }: Operand, rows: number, depth: number): number => (along === "depth" ? rows : depth);

/** Rows of sums that go through shared memory at once, for each row of subgroups. */
const ROWS_IN_WGSL = FRAGMENT;

/** Bytes of shared memory, at most. WGSL keeps sums in the tiles' memory only where tiles are filled by 16 bytes. */
function bytesOf({ bm, bn, bk, wm, stages }: FragmentSchedule, { left, right }: Pick<Product, "left" | "right">, isWgsl: boolean): number {
  const tile = (o: Operand, rows: number): number => bytesPer(o) * linesOf(o, rows, bk) * lineOf(o, rows, bk);
  const tiles = stages * (tile(left, bm) + tile(right, bn)) + 256;
  const isWide = [left, right].every((o) => o.run === 8);
  return isWgsl && !isWide ? tiles + 4 * (bm / wm) * ROWS_IN_WGSL * (bn + SUM_PAD) : tiles;
}

/** Those that the target's workgroups have threads and shared memory for. */
export const fragmentSchedules = (operands: Pick<Product, "left" | "right">, target: SimtTarget): readonly FragmentSchedule[] =>
  (target.holdsCopies ? HELD_SCHEDULES : operands.left.dtype === "f32" ? F32_SCHEDULES : SCHEDULES).filter(
    (s) => threadsOf(s) <= target.maxThreads && bytesOf(s, operands, target.name === "wgsl") <= target.sharedBytes,
  );
const threadsOf = ({ bm, bn, wm, wn, slices = 1 }: FragmentSchedule): number => ((bm * bn) / (wm * wn)) * slices * SUBGROUP;

/** Sums of a subgroup from which on two sets of fragments of float32, which take 16 registers each, leave a multiprocessor too few subgroups. */
const WIDE = 32 * 32;
/** Two sets: one is loaded while the other is multiplied; with one, other subgroups hide the loads. */
const setsOf = (dtype: Operand["dtype"], { wm, wn }: Pick<FragmentSchedule, "wm" | "wn">): 1 | 2 =>
  dtype === "f32" && wm * wn >= WIDE ? 1 : 2;

/** One operand on its way: memory, a ring of tiles in shared memory, fragments. */
class Lane {
  readonly array: number;
  readonly slotElements: number;
  readonly fragments: readonly (readonly Fragment[])[];
  private readonly share: Share;
  private readonly line: number;

  constructor(
    private readonly b: SimtBuilder,
    private readonly side: "a" | "b",
    private readonly buffer: number,
    private readonly operand: Operand,
    place: { readonly batch: Reg; readonly firstRow: Reg },
    tile: { readonly rows: number; readonly depth: number; readonly threads: number; readonly stages: number },
    private readonly subgroupRows: number,
    sets: number,
  ) {
    this.line = lineOf(operand, tile.rows, tile.depth);
    this.slotElements = linesOf(operand, tile.rows, tile.depth) * this.line;
    const dtype = operand.dtype as "f16" | "bf16" | "f32"; // as the target's fragments are
    this.array = b.array(dtype as SharedArray["type"], tile.stages * this.slotElements);
    this.share = new Share(b, operand, place, { ...tile, most: 8 });
    this.fragments = Array.from({ length: sets }, () => Array.from({ length: subgroupRows / FRAGMENT }, () => b.fragment(side, dtype)));
  }

  /** Starts the copies of the tile at depth `from` into a slot. */
  copy(slot: Reg, from: Reg, to: Reg): void {
    const { line, operand, share } = this;
    for (const take of share.takes(from, to, false)) {
      const place = operand.along === "depth" ? sum(fn("mul", take.row, line), take.depth) : sum(fn("mul", take.depth, line), take.row);
      this.start(sum(fn("mul", slot, this.slotElements), place), take);
    }
  }
  private start(to: Reg, { at, isInside }: Take): void {
    const { array, b, buffer, share } = this;
    if (share.run * bytesPer(this.operand) >= LEAST_COPY || b.target.holdsCopies) b.copy(array, to, buffer, at, share.run, isInside);
    else {
      const value = b.load(buffer, at);
      b.storeShared(array, to, isInside ? select(isInside, value, { k: "num", type: "f32", value: 0 }) : value);
    }
  }

  /** Loads fragments of a slot at `depth` of the slice's part of the tile, which begins at `part`, from row `first` on. */
  load(set: number, slot: Reg, first: Reg, part: Reg, depth: number): void {
    const { b, array, line, operand, side } = this;
    const isDeep = operand.along === "depth";
    const base = sum(fn("mul", slot, this.slotElements), isDeep ? sum(fn("mul", first, line), part) : sum(first, fn("mul", part, line)));
    for (let i = 0; i < this.subgroupRows / FRAGMENT; i++) {
      const at = sum(base, isDeep ? i * FRAGMENT * line + depth : i * FRAGMENT + depth * line);
      b.loadFragment(this.fragments[set][i], array, at, line, side === "a" ? !isDeep : isDeep);
    }
  }
}

export function fragmentProduct(name: string, product: Product, schedule: FragmentSchedule, target: SimtTarget): SimtKernel {
  const { bm, bn, bk, wm, wn, stages, slices = 1 } = schedule;
  invariant(stages > 1 || target.holdsCopies, `${name}: one stage, which copies fill while it is read`);
  const { b, buffers, tail } = productCode(name, product, target);
  const tiles = tiling(sizeOf(product), bm, bn, bk, target);
  const { batch, part, from, to, row, column } = tiles.place(b);
  const [down, across] = [bm / wm, bn / wn];
  const threads = threadsOf(schedule);
  const number = b.let(fn("div", thread(), SUBGROUP));
  const [slice, subgroup] =
    slices === 1 ? [int(0), number] : [b.let(fn("div", number, down * across)), b.let(fn("rem", number, down * across))];
  const slicePart = b.let(fn("mul", slice, bk / slices));
  const firsts = [b.let(fn("mul", fn("div", subgroup, across), wm)), b.let(fn("mul", fn("rem", subgroup, across), wn))] as const;
  const tile = { depth: bk, threads, stages };
  const sets = setsOf(product.left.dtype, schedule);
  const left = new Lane(b, "a", buffers.left, product.left, { batch, firstRow: row }, { ...tile, rows: bm }, wm, sets);
  const right = new Lane(b, "b", buffers.right, product.right, { batch, firstRow: column }, { ...tile, rows: bn }, wn, sets);
  const sums = left.fragments[0].map(() => right.fragments[0].map(() => b.fragment("sum", "f32")));
  const copy = (slot: Reg, at: Reg): void => {
    for (const lane of [left, right]) lane.copy(slot, at, to);
    b.commitCopies();
  };
  const load = (set: number, slot: Reg, depth: number): void => {
    left.load(set, slot, firsts[0], slicePart, depth);
    right.load(set, slot, firsts[1], slicePart, depth);
  };
  const ahead = Math.max(1, stages - 1);
  for (let s = 0; s < ahead; s++) copy(int(s), sum(from, s * bk));
  b.copiesDone(Math.max(0, stages - 2));
  b.barrier();
  if (sets === 2) load(0, int(0), 0);
  const slot = b.variable("i32", int(0));
  const filled = b.variable("i32", int(ahead % stages));
  const after = (v: Reg): Reg => {
    const next = b.let(sum(v, 1));
    return b.let(select(fn("eq", next, stages), int(0), next));
  };
  const nextTile = (): void => {
    if (stages === 1) b.barrier(); // all have read the tile before the next takes its place
    // The next tile is there, and all have read the last of this one.
    b.copiesDone(Math.max(0, stages - 2));
    b.barrier();
    b.set(slot, after(slot));
  };
  const steps = bk / slices / FRAGMENT;
  b.loop(from, to, bk, (at) => {
    for (let step = 0; step < steps; step++) {
      const isLast = step === steps - 1;
      if (sets === 1) load(0, slot, step * FRAGMENT);
      else {
        if (isLast) nextTile();
        load((step + 1) % 2, slot, ((step + 1) % steps) * FRAGMENT);
      }
      if (step === 0) {
        copy(filled, b.let(sum(at, ahead * bk)));
        b.set(filled, after(filled));
      }
      for (const [i, line] of sums.entries())
        for (const [j, s] of line.entries()) b.multiply(s, left.fragments[step % sets][i], right.fragments[step % sets][j]);
      if (sets === 1 && isLast) nextTile();
    }
  });
  b.copiesDone(0);
  // The sums go through the tiles' memory, as many rows of fragments at once as there is room for.
  const line = bn + SUM_PAD;
  const room = stages * (bytesPer(product.left) * left.slotElements + bytesPer(product.right) * right.slotElements);
  const all = wm / FRAGMENT;
  const perPass = target.name === "cuda" ? largestDivisor(all, Math.floor(room / (4 * line * down * FRAGMENT * slices))) : 1;
  const height = perPass * FRAGMENT;
  const perSlice = down * height * line;
  const staged = b.array("f32", slices * perSlice, left.array);
  for (let pass = 0; pass < all; pass += perPass) {
    b.barrier();
    for (let i = 0; i < perPass; i++)
      for (const [j, s] of sums[pass + i].entries()) {
        const r = sum(fn("mul", fn("div", firsts[0], wm), height), i * FRAGMENT);
        b.storeFragment(s, staged, b.let(sum(fn("mul", slice, perSlice), fn("mul", r, line), firsts[1], j * FRAGMENT)), line);
      }
    b.barrier();
    b.loop(thread(), (down * height * bn) / 4, threads, (i) => {
      const r = b.let(fn("div", i, bn / 4));
      const c = b.let(fn("mul", fn("rem", i, bn / 4), 4));
      const parts = Array.from({ length: slices }, (_, s) =>
        b.loadVector({ k: "shared", number: staged }, sum(fn("mul", r, line), c, s * perSlice), 4),
      );
      const values = parts.reduce((all, part) => all.map((v, j) => b.let(fn("add", v, part[j]))));
      const tileRow = sum(fn("mul", fn("div", r, height), wm), fn("rem", r, height), pass * FRAGMENT);
      tail.store(part, b.let(sum(row, tileRow)), b.let(sum(column, c)), values);
    });
  }
  return b.build([threads, 1, 1], tiles.grid);
}

/** The largest divisor of n that is `most` at most; 1 at least. */
function largestDivisor(n: number, most: number): number {
  for (let d = Math.min(n, most); d > 1; d--) if (n % d === 0) return d;
  return 1;
}
