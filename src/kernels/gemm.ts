// Matrix products: a (batch,m,k) · b (batch,k,n) → (batch,m,n), with b packed in tiles ahead and an epilogue on the accumulators.
import type { DType } from "../ir/dtype.ts";
import { type Int, type Kernel, KernelBuilder, plus, type SimdTarget, times, type Vec } from "../ir/kernel.ts";
import { MEMORY_BYTES } from "../ir/kernel_ops.ts";
import { pairOf } from "./conv_weights.ts";
import { type Epilogue, EpilogueCode } from "./epilogue.ts";
import { chooseTile, multiplyTile, overDepth, type TileShape, unrollOf } from "./tile.ts";
import { type Part, shareOut } from "./work.ts";

/**
 * How numbers are stored: `a` in this type, which is converted when it is read, and packed `b` in float32; or both as words of two bf16 that are
 * neighbours along k, for targets that multiply these. Then k and the strides of `a` count words.
 */
export type GemmFormat = "f32" | "f16" | "bf16" | "pairs";

export interface GemmShape {
  /** Default: f32. */
  readonly format?: GemmFormat;
  readonly batch: number;
  readonly m: number;
  readonly n: number;
  readonly k: number;
  /** Elements from batch to batch and from row to row of `a`; 0 between batches: the same one for all. */
  readonly left: { readonly batch: number; readonly row: number };
  /** Whether each batch has its own `b`. */
  readonly isRightBatched: boolean;
  /** Whether the sums start at a bias (n). */
  readonly hasBias: boolean;
  /** So many threads share columns, not rows: where `b` is packed at run time each finds what it has packed itself, and need not wait for others' caches. */
  readonly columnSharers?: number;
}

/** How a product is cut up: register tile, depth of a block, column tiles of a block. */
export interface GemmSchedule {
  readonly tile: TileShape;
  /** Depth worked off at once: a row panel of `a` of this depth stays in the first-level cache. */
  readonly depth: number;
  /** Column tiles whose part of `b` stays in the second-level cache. */
  readonly columnTiles: number;
  /** Whether row panels are copied next to each other, as float32, first. */
  readonly copiesLeft: boolean;
}

/** Vectors of columns that a thread's tiles should have room for. */
const WIDE = 4;

/** Of threads that pack `b` at run time, how many have columns of their own: all where the left operand is the same for all of them, or no larger than the right one. Else they share rows. */
export function columnSharers(
  { batch, m, n }: GemmShape,
  isLeftConstant: boolean,
  { lanes }: SimdTarget,
  threads: number,
): number | undefined {
  const pays = m <= n || (isLeftConstant && n >= WIDE * lanes * threads);
  return batch === 1 && threads > 1 && pays ? threads : undefined;
}

/** Depths up to this are worked off at once; longer ones in blocks of about BLOCK_DEPTH, whose panels of `a` and tiles of `b` the caches hold. */
const MAX_DEPTH = 512;
const BLOCK_DEPTH = 256;

/** Type and size in memory of what `a` is made of. */
const leftType = ({ format = "f32" }: GemmShape): "f32" | "f16" | "bf16" => (format === "pairs" ? "f32" : format);

/** The schedule for a product, from the sizes of the caches. */
export function scheduleGemm(shape: GemmShape, target: SimdTarget, output: DType = "f32"): GemmSchedule {
  const { m, n, k, left, columnSharers = 1 } = shape;
  const bytes = MEMORY_BYTES[leftType(shape)];
  const tile = chooseTile(target, m, Math.ceil(n / target.lanes / columnSharers));
  const width = tile.vectors * target.lanes;
  // Rows a multiple of a large power of two apart fall into few cache sets: their panels are copied, and may as well be short.
  const collides = (left.row * bytes) % 1024 === 0 && tile.rows > 4;
  const isLong = k > (collides ? 1.5 * BLOCK_DEPTH : MAX_DEPTH);
  // Unfinished sums wait in the output: it must be float32.
  const blocks = isLong && output === "f32" ? Math.ceil(k / BLOCK_DEPTH) : 1;
  const depth = blocks === 1 ? k : Math.ceil(k / blocks / 8) * 8;
  const columnTiles = Math.max(1, Math.floor((target.l2 * 0.5) / (depth * width * 4)));
  return { tile, depth, columnTiles, copiesLeft: tile.rows > 1 && (blocks > 1 || collides || bytes < 4) && n > 2 * width };
}

/** Columns of each tile: full ones, then the rest rounded up to whole vectors. */
function tileWidths(n: number, lanes: number, vectors: number): { full: number; width: number; rest: number; restWidth: number } {
  const width = vectors * lanes;
  const full = Math.floor(n / width);
  const rest = n - full * width;
  return { full, width, rest, restWidth: Math.ceil(rest / lanes) * lanes };
}

/** Elements of a packed `b`. */
export function packedElements(shape: GemmShape, schedule: GemmSchedule, target: SimdTarget): number {
  const { full, width, restWidth } = tileWidths(shape.n, target.lanes, schedule.tile.vectors);
  return (shape.isRightBatched ? shape.batch : 1) * shape.k * (full * width + restWidth);
}

/** Packs b, whose element (batch, k, n) is at batch·k·n + k·strides.k + n·strides.n, as the kernel wants it: [batch][depth block][column tile][depth][column]. */
export function packRight<T extends Float32Array | Int32Array>(
  b: T,
  strides: { readonly k: number; readonly n: number },
  shape: GemmShape,
  schedule: GemmSchedule,
  target: SimdTarget,
  out: T,
): void {
  const { k, n } = shape;
  const { full, width, restWidth } = tileWidths(n, target.lanes, schedule.tile.vectors);
  const isContiguous = strides.n === 1;
  let at = 0;
  for (let batch = 0; batch < (shape.isRightBatched ? shape.batch : 1); batch++) {
    for (let k0 = 0; k0 < k; k0 += schedule.depth) {
      const k1 = Math.min(k, k0 + schedule.depth);
      for (let n0 = 0; n0 < full * width + restWidth; n0 += width) {
        const w = n0 < full * width ? width : restWidth;
        const columns = Math.min(w, n - n0);
        for (let i = k0; i < k1; i++, at += w) {
          const from = batch * k * n + i * strides.k + n0 * strides.n;
          if (isContiguous && columns > 16) out.set(b.subarray(from, from + columns), at);
          else for (let j = 0; j < columns; j++) out[at + j] = b[from + j * strides.n];
        }
      }
    }
  }
}

/** The same for the format of pairs, which it makes of numbers that are bf16 already: here the strides and the batches count numbers. */
export function packPairs(
  b: Float32Array,
  strides: { readonly k: number; readonly n: number },
  shape: GemmShape,
  schedule: GemmSchedule,
  target: SimdTarget,
  out: Float32Array,
): void {
  const { k, n } = shape;
  const bits = new Int32Array(b.buffer, b.byteOffset, b.length);
  const words = new Int32Array(b.length / 2);
  for (let row = 0, at = 0; at < words.length; row++) {
    const from = Math.floor(row / k) * 2 * k * n + (row % k) * 2 * strides.k;
    for (let j = 0; j < n; j++, at++) {
      const lower = from + j * strides.n;
      words[at] = pairOf(bits[lower], bits[lower + strides.k]);
    }
  }
  // As integers: a word that looks like a signalling NaN must stay as it is.
  packRight(words, { k: n, n: 1 }, shape, schedule, target, new Int32Array(out.buffer, out.byteOffset, out.length));
}

/** Buffers: a, packed b, bias when there is one, the epilogue's inputs, output. */
export function gemmKernel(
  name: string,
  shape: GemmShape,
  schedule: GemmSchedule,
  epilogue: Epilogue,
  target: SimdTarget,
  threads: number,
): Kernel {
  return new Gemm(name, shape, schedule, epilogue, target, threads).build();
}

/** Which part of the depth a block is: sums start at the bias or at what earlier blocks left, and end in the epilogue or are left for later ones. */
interface Block {
  readonly from: Int;
  readonly depth: number;
  readonly isFirst: boolean;
  readonly isLast: boolean;
}

class Gemm {
  private readonly b: KernelBuilder;
  /** Of `a` in memory. */
  private readonly type: "f32" | "f16" | "bf16";
  private readonly bytes: number;
  private readonly left: number;
  private readonly right: number;
  private readonly bias: number;
  private readonly scratch: number;
  private readonly epilogue: EpilogueCode;
  private readonly tiles: ReturnType<typeof tileWidths>;
  private readonly rowTiles: { readonly full: number; readonly rest: number };

  constructor(
    name: string,
    private readonly shape: GemmShape,
    private readonly schedule: GemmSchedule,
    epilogue: Epilogue,
    private readonly target: SimdTarget,
    threads: number,
  ) {
    const { batch, m, n, k, left, hasBias } = shape;
    const { tile } = schedule;
    this.b = new KernelBuilder(name, target, threads);
    this.tiles = tileWidths(n, target.lanes, tile.vectors);
    this.rowTiles = { full: Math.floor(m / tile.rows), rest: m % tile.rows };
    this.type = leftType(shape);
    this.bytes = MEMORY_BYTES[this.type];
    this.left = this.b.buffer("a", this.bytes * ((batch - 1) * left.batch + (m - 1) * left.row + k), "read");
    this.right = this.b.buffer("b", 4 * packedElements(shape, schedule, target), "read");
    this.bias = hasBias ? this.b.buffer("bias", 4 * n, "read") : -1;
    this.epilogue = new EpilogueCode(this.b, epilogue, n);
    const panelBytes = schedule.copiesLeft ? tile.rows * this.panelRow() : 0;
    const sumBytes = this.epilogue.scratchBytes(tile, k);
    this.scratch = panelBytes + sumBytes > 0 ? this.b.buffer("scratch", panelBytes + sumBytes, "scratch") : -1;
    if (sumBytes > 0) this.epilogue.useScratch(this.scratch, panelBytes);
  }

  /** Bytes between rows of a copied panel; a line more than needed, so that rows do not share cache sets. */
  private panelRow(): number {
    return Math.ceil(this.schedule.depth / 16) * 64 + 64;
  }

  build(): Kernel {
    const { b, shape, schedule, tiles, rowTiles } = this;
    const columnTiles = tiles.full + (tiles.rest ? 1 : 0);
    const allRows = rowTiles.full + (rowTiles.rest ? 1 : 0);
    const isTurned = shape.columnSharers !== undefined;
    shareOut(b, [shape.batch, ...(isTurned ? [columnTiles, allRows] : [allRows, columnTiles])], ([batches, first, second]) => {
      const [rows, columns] = isTurned ? [second, first] : [first, second];
      b.loop(batches.from, batches.to, 1, (batch) => {
        if (schedule.columnTiles >= columnTiles) this.blocks(batch, rows, columns);
        else
          b.loop(0, Math.ceil(columnTiles / schedule.columnTiles), 1, (block) => {
            const from = b.max(times(block, schedule.columnTiles), columns.from);
            const to = b.min(plus(times(block, schedule.columnTiles), schedule.columnTiles), columns.to);
            this.blocks(batch, rows, { from, to });
          });
      });
    });
    return b.build();
  }

  /** The depth, block after block. */
  private blocks(batch: Int, rows: Part, columns: Part): void {
    const { b, shape, schedule } = this;
    const { depth } = schedule;
    const count = Math.ceil(shape.k / depth);
    const last = shape.k - (count - 1) * depth;
    const run = (block: Block): void => this.rows(batch, block, rows, columns);
    if (count === 1) {
      run({ from: 0, depth: shape.k, isFirst: true, isLast: true });
      return;
    }
    run({ from: 0, depth, isFirst: true, isLast: false });
    b.loop(1, count - 1, 1, (i) => run({ from: times(i, depth), depth, isFirst: false, isLast: false }));
    run({ from: (count - 1) * depth, depth: last, isFirst: false, isLast: true });
  }

  private rows(batch: Int, block: Block, rows: Part, columns: Part): void {
    const { b, rowTiles, schedule } = this;
    const { full, rest } = rowTiles;
    if (full > 0) {
      b.loop(rows.from, b.threads === 1 ? full : b.min(rows.to, full), 1, (tile) => {
        this.panel(batch, block, times(tile, schedule.tile.rows), schedule.tile.rows, columns);
      });
    }
    if (rest > 0) b.when(full, rows.to, () => this.panel(batch, block, full * schedule.tile.rows, rest, columns));
  }

  /** Some rows times all columns of the part. */
  private panel(batch: Int, block: Block, row: Int, rows: number, columns: Part): void {
    const { b, tiles, schedule, scratch, shape } = this;
    const { bytes, type } = this;
    const from = plus(times(batch, shape.left.batch * bytes), times(row, shape.left.row * bytes), times(block.from, bytes));
    if (schedule.copiesLeft) this.copyPanel(from, rows, block.depth);
    const left = schedule.copiesLeft
      ? { buffer: scratch, from: 0 as Int, rowBytes: this.panelRow(), type: "f32" as const, bytes: 4 }
      : { buffer: this.left, from, rowBytes: shape.left.row * bytes, type, bytes };
    const { full, rest, width, restWidth } = tiles;
    const { lanes } = this.target;
    if (full > 0) {
      b.loop(columns.from, rest ? b.min(columns.to, full) : columns.to, 1, (tile) => {
        this.tile(batch, block, left, row, rows, { tile, column: times(tile, width), width, lastLanes: lanes });
      });
    }
    if (rest > 0)
      b.when(full, columns.to, () =>
        this.tile(batch, block, left, row, rows, {
          tile: full,
          column: full * width,
          width: restWidth,
          lastLanes: rest - restWidth + lanes,
        }),
      );
  }

  private copyPanel(from: Int, rows: number, depth: number): void {
    const { b, scratch, bytes, type } = this;
    const { lanes } = this.target;
    const whole = depth - (depth % lanes);
    for (let r = 0; r < rows; r++) {
      const source = plus(from, r * this.shape.left.row * bytes);
      const target = r * this.panelRow();
      const copy = (k: Int, count: number): void =>
        b.store(b.load(this.left, plus(source, times(k, bytes)), count, type), scratch, plus(target, times(k, 4)), count);
      if (whole) b.loop(0, whole, lanes, (k) => copy(k, lanes));
      if (whole < depth) copy(whole, depth - whole);
    }
  }

  private tile(
    batch: Int,
    block: Block,
    left: { buffer: number; from: Int; rowBytes: number; type: "f32" | "f16" | "bf16"; bytes: number },
    row: Int,
    rows: number,
    columns: { tile: Int; column: Int; width: number; lastLanes: number },
  ): void {
    const { b, shape, epilogue } = this;
    const { lanes } = this.target;
    const vectors = columns.width / lanes;
    const lanesOf = (v: number): number => (v === vectors - 1 ? columns.lastLanes : lanes);
    const outRow = (r: number): Int => plus(times(batch, shape.m), row, r);
    const outColumn = (v: number): Int => plus(columns.column, v * lanes);
    const sums = this.start(block, rows, vectors, lanesOf, outColumn);
    const overTile = (f: (r: number, v: number) => void): void => {
      for (const [r, row] of sums.entries()) for (const v of row.keys()) f(r, v);
    };
    if (!block.isFirst) overTile((r, v) => epilogue.prefetch(outRow(r), outColumn(v)));
    const right = plus(this.rightBlock(batch, block), times(columns.tile, this.tiles.width * block.depth * 4));
    overDepth(b, block.depth, unrollOf(this.target, block.depth, rows * vectors), (k, count) => {
      multiplyTile(b, sums, count, {
        left: {
          buffer: left.buffer,
          type: left.type,
          at: (r, i) => plus(left.from, r * left.rowBytes + i * left.bytes, times(k, left.bytes)),
        },
        right: { buffer: this.right, at: (v, i) => plus(right, times(k, columns.width * 4), (i * columns.width + v * lanes) * 4) },
        step: shape.format === "pairs" ? "dotbf16" : "fma",
      });
    });
    // What earlier blocks left is added last, when it has arrived: sums that began with it would wait for it.
    if (!block.isFirst)
      overTile((r, v) => b.op("add", sums[r][v], epilogue.loadPartial(outRow(r), outColumn(v), lanesOf(v)), undefined, sums[r][v]));
    if (block.isLast) {
      epilogue.storeTile(sums, { row: outRow(0), rowStep: 1, column: outColumn, lanesOf });
      return;
    }
    overTile((r, v) => epilogue.storePartial(sums[r][v], outRow(r), outColumn(v), lanesOf(v)));
  }

  /** Byte offset of a block's tiles in packed b. */
  private rightBlock(batch: Int, block: Block): Int {
    const { shape, tiles } = this;
    const columns = tiles.full * tiles.width + tiles.restWidth;
    return plus(times(shape.isRightBatched ? batch : 0, shape.k * columns * 4), times(block.from, columns * 4));
  }

  /** Accumulators at the bias, or at zero. */
  private start(block: Block, rows: number, vectors: number, lanesOf: (v: number) => number, outColumn: (v: number) => Int): Vec[][] {
    const { b } = this;
    const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i);
    const hasBias = this.bias >= 0 && block.isFirst;
    const initial = range(vectors).map((v) => (hasBias ? b.load(this.bias, times(outColumn(v), 4), lanesOf(v)) : b.f32(0)));
    return range(rows).map(() => initial.map((x) => b.op("mov", x)));
  }
}
