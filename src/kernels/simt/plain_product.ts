// Matrix products on plain cores: tiles of both operands in shared memory, a block of sums in each thread's registers.
import { float, fn, int, type Reg, type SimtBuilder, type SimtKernel, type SimtTarget, select, sum, thread } from "../../ir/simt.ts";
import type { Operand } from "./operand.ts";
import { type Product, productCode, sizeOf } from "./product.ts";
import { Share, type Take } from "./share.ts";
import { tiling } from "./tiles.ts";

/**
 * Tiles of bm × bn; a thread has tm × tn sums, in blocks of 4 that lie apart, so that neighbours read neighbours. `slices` threads have the same sums, each of
 * another bk of the depth in shared memory, and add them up at last: where there are few tiles, more threads hide each other's waiting.
 */
export interface PlainSchedule {
  readonly bm: number;
  readonly bn: number;
  readonly bk: number;
  readonly tm: 4 | 8;
  readonly tn: 4 | 8;
  /** Tiles in shared memory: with 2 the next is stored while one is multiplied. */
  readonly slots: 1 | 2;
  readonly slices: 1 | 2 | 4;
  /** Cycles from one tile along the depth to the next, measured on an H200 with bk of 16: of a workgroup that is alone on its multiprocessor, and of each of many. */
  readonly cycles: { readonly alone: number; readonly shared: number };
}

/** From large to small. */
export const PLAIN_SCHEDULES: readonly PlainSchedule[] = [
  { bm: 128, bn: 128, bk: 16, tm: 8, tn: 8, slots: 2, slices: 1, cycles: { alone: 3070, shared: 2800 } },
  { bm: 128, bn: 64, bk: 16, tm: 8, tn: 4, slots: 2, slices: 1, cycles: { alone: 1840, shared: 1470 } },
  { bm: 64, bn: 64, bk: 16, tm: 4, tn: 4, slots: 2, slices: 1, cycles: { alone: 1160, shared: 960 } },
  { bm: 128, bn: 32, bk: 16, tm: 8, tn: 4, slots: 2, slices: 1, cycles: { alone: 1160, shared: 980 } },
  { bm: 64, bn: 32, bk: 16, tm: 4, tn: 4, slots: 2, slices: 2, cycles: { alone: 1420, shared: 1230 } },
  { bm: 32, bn: 32, bk: 16, tm: 4, tn: 4, slots: 2, slices: 1, cycles: { alone: 770, shared: 330 } },
  { bm: 32, bn: 32, bk: 16, tm: 4, tn: 4, slots: 2, slices: 4, cycles: { alone: 2040, shared: 1840 } },
];

/** Two workgroups on a multiprocessor: one multiplies while the other waits at a barrier. */
const RESIDENTS = 2;
/** Rows of 4 floats more, so that turned stores meet fewer times in a bank. */
const PAD = 4;
/** Threads of a subgroup lie in a block of so many columns, so that they read few different places. */
const ACROSS = 8;

/** Of tiles, and of half of the sums while slices are added up. */
export const plainBytes = ({ bm, bn, bk, slots, slices }: PlainSchedule): number =>
  4 * slots * bk * slices * (bm + bn + 2 * PAD) + (slices > 1 ? 2 * slices * bm * bn : 0);

/** One operand on its way: memory, registers, shared memory. */
class Lane {
  readonly share: Share;
  private readonly array: number;
  private readonly stride: number;
  private readonly staged: readonly (readonly Extract<Reg, { k: "var" }>[])[];

  constructor(
    private readonly b: SimtBuilder,
    private readonly buffer: number,
    private readonly operand: Operand,
    place: { readonly batch: Reg; readonly firstRow: Reg },
    private readonly tile: { readonly rows: number; readonly depth: number; readonly threads: number; readonly slots: number },
  ) {
    this.stride = tile.rows + PAD;
    this.array = b.array("f32", tile.slots * tile.depth * this.stride);
    this.share = new Share(b, operand, place, { ...tile, most: 4 });
    const vectors = (tile.rows * tile.depth) / this.share.run / tile.threads;
    this.staged = Array.from({ length: vectors }, () => Array.from({ length: this.share.run }, () => b.variable("f32", float(0))));
  }

  /** From memory to registers. */
  fetch(takes: readonly Take[]): void {
    const { b, buffer, share } = this;
    for (const [i, { at, isInside }] of takes.entries()) {
      const values = share.run === 1 ? [b.load(buffer, at)] : b.loadVector({ k: "buffer", number: buffer }, at, share.run as 2 | 4);
      for (const [j, v] of values.entries()) b.set(this.staged[i][j], isInside ? select(isInside, v, float(0)) : v);
    }
  }

  /** From registers to a slot, as (depth, row). */
  put(takes: readonly Pick<Take, "row" | "depth">[], slot: Reg): void {
    const { b, array, stride, tile, share } = this;
    const isRow = this.operand.along === "row";
    for (const [i, { row, depth }] of takes.entries()) {
      const at = b.let(sum(fn("mul", slot, tile.depth * stride), fn("mul", depth, stride), row));
      if (isRow && share.run === 4) b.storeVector({ k: "shared", number: array }, at, this.staged[i]);
      else for (const [j, v] of this.staged[i].entries()) b.storeShared(array, sum(at, isRow ? j : j * stride), v);
    }
  }

  /** Of a slot, the values of a thread at one depth: blocks of 4 rows, each `apart` behind the one before. */
  read(slotDepth: Reg, first: Reg, blocks: number, apart: number): readonly Reg[] {
    const { b, array, stride } = this;
    const at = b.let(sum(fn("mul", slotDepth, stride), first));
    return Array.from({ length: blocks }, (_, i) => b.loadVector({ k: "shared", number: array }, sum(at, i * apart), 4)).flat();
  }
}

export function plainProduct(name: string, product: Product, schedule: PlainSchedule, target: SimtTarget): SimtKernel {
  const { bm, bn, tm, tn, slots, slices } = schedule;
  const bk = schedule.bk * slices;
  const { b, buffers, tail } = productCode(name, product, target);
  const size = sizeOf(product);
  const tiles = tiling(size, bm, bn, bk, target);
  const { batch, part, from, to, row, column } = tiles.place(b);
  const [down, across] = [bm / tm, bn / tn];
  const perSlice = down * across;
  const threads = perSlice * slices;
  const lanes = [
    new Lane(b, buffers.left, product.left, { batch, firstRow: row }, { rows: bm, depth: bk, threads, slots }),
    new Lane(b, buffers.right, product.right, { batch, firstRow: column }, { rows: bn, depth: bk, threads, slots }),
  ] as const;
  const wide = Math.min(ACROSS, across);
  const blocks = across / wide;
  const slice = slices === 1 ? int(0) : b.let(fn("div", thread(), perSlice));
  const member = slices === 1 ? thread() : b.let(fn("rem", thread(), perSlice));
  const inBlock = b.let(fn("rem", member, 32));
  const subgroup = b.let(fn("div", member, 32));
  const ty = b.let(fn("mul", sum(fn("mul", fn("div", subgroup, blocks), 32 / wide), fn("div", inBlock, wide)), 4));
  const tx = b.let(fn("mul", sum(fn("mul", fn("rem", subgroup, blocks), wide), fn("rem", inBlock, wide)), 4));
  const sums = Array.from({ length: tm }, () => Array.from({ length: tn }, () => b.variable("f32", float(0))));
  const isWhole = size.k % (bk * size.splits) === 0;
  const takesAt = (at: Reg): (readonly Take[])[] => lanes.map((l) => l.share.takes(at, to, isWhole));
  const fetch = (at: Reg): (readonly Take[])[] => {
    const takes = takesAt(at);
    for (const [i, lane] of lanes.entries()) lane.fetch(takes[i]);
    return takes;
  };
  const put = (takes: readonly (readonly Take[])[], slot: Reg): void => {
    for (const [i, lane] of lanes.entries()) lane.put(takes[i], slot);
  };
  const multiply = (slot: Reg): void =>
    b.loop(
      0,
      schedule.bk,
      1,
      (d) => {
        const at = sum(fn("mul", slot, bk), fn("mul", slice, schedule.bk), d);
        const x = lanes[0].read(at, ty, tm / 4, bm / (tm / 4));
        const y = lanes[1].read(at, tx, tn / 4, bn / (tn / 4));
        for (const [i, line] of sums.entries()) for (const [j, s] of line.entries()) b.set(s, fn("fma", x[i], y[j], s));
      },
      true,
    );
  const first = fetch(from);
  const slot = b.variable("i32", int(0));
  if (slots === 2) {
    put(first, int(0));
    b.barrier();
  }
  b.loop(from, to, bk, (at) => {
    const next = b.let(sum(at, bk));
    const isMore = b.let(fn("lt", next, to));
    if (slots === 1) {
      put(first, int(0));
      b.barrier();
    }
    b.when(isMore, () => void fetch(next));
    multiply(slot);
    if (slots === 2) {
      b.set(slot, fn("sub", int(1), slot));
      b.when(isMore, () => put(first, slot));
    }
    b.barrier();
  });
  addSlices(b, sums.flat(), slice, member, slices, perSlice);
  const store = (): void => {
    for (const [i, line] of sums.entries()) {
      const r = b.let(sum(row, ty, (i >> 2) * (bm / (tm / 4)) + (i & 3)));
      for (let j = 0; j < tn; j += 4) tail.store(part, r, b.let(sum(column, tx, (j >> 2) * (bn / (tn / 4)))), line.slice(j, j + 4));
    }
  };
  if (slices === 1) store();
  else b.when(fn("eq", slice, 0), store);
  return b.build([threads, 1, 1], tiles.grid, RESIDENTS);
}

/** The first slice's sums become those of all: in each round the upper half of the slices hands its own to the lower half. */
function addSlices(
  b: SimtBuilder,
  sums: readonly Extract<Reg, { k: "var" }>[],
  slice: Reg,
  member: Reg,
  slices: number,
  perSlice: number,
): void {
  if (slices === 1) return;
  const array = b.array("f32", (slices / 2) * sums.length * perSlice);
  for (let half = slices / 2; half >= 1; half /= 2) {
    const place = (from: Reg, i: number): Reg => sum(fn("mul", from, sums.length * perSlice), i * perSlice, member);
    b.when(fn("and", fn("ge", slice, half), fn("lt", slice, 2 * half)), () => {
      for (const [i, s] of sums.entries()) b.storeShared(array, place(fn("sub", slice, half), i), s);
    });
    b.barrier();
    b.when(fn("lt", slice, half), () => {
      for (const [i, s] of sums.entries()) b.set(s, fn("add", s, b.loadShared(array, place(slice, i))));
    });
    b.barrier();
  }
}
