// Sparse times dense by code made for one pattern (SparseRT, Wang 2020): positions are displacements in the instructions, so that no index is read.
import { HeddleError } from "../ir/error.ts";
import { type Int, type Kernel, KernelBuilder, plus, type SimdTarget, times, type Vec } from "../ir/kernel.ts";
import type { Csr } from "../sparse/csr.ts";
import { type Epilogue, EpilogueCode } from "./epilogue.ts";
import { sparseVectors } from "./sparse_columns.ts";
import { copyPanel, type DenseShape, type DenseSide, type Panel, type PanelBuffers, type PanelTile } from "./sparse_side.ts";
import { type Part, shareOut } from "./work.ts";

/** Rows whose sums stay in registers together, and the columns of a panel in which they have nonzeros. */
export interface PatternGroup {
  readonly rows: readonly number[];
  readonly columns: readonly PatternColumn[];
}
export interface PatternColumn {
  readonly column: number;
  /** By numbers in the group. */
  readonly rows: readonly number[];
}

/** The pattern of a matrix in the order in which its code meets it. */
export interface Pattern {
  readonly rows: number;
  readonly depth: number;
  /** Columns of the dense operand. */
  readonly n: number;
  readonly nonzeros: number;
  /** Columns of the result worked off together, in vectors. */
  readonly vectors: number;
  /** Of each panel of the dense operand and each block of BLOCK rows. */
  readonly panels: readonly (readonly (readonly PatternGroup[])[])[];
  /** Where each value is in the matrix. */
  readonly place: Int32Array;
}

/** Rows that one thread works on: a multiple of all heights of groups and of all numbers of lanes. */
const BLOCK = 48;
export const patternBlocks = (rows: number): number => Math.ceil(rows / BLOCK);
/** Of the dense operand's rows as many as that, in bytes, stay in the first-level cache. */
const PANEL_BYTES = 3 * BLOCK * 256;
/** Code takes 40 to 60 bytes a nonzero; more of it than this comes from memory too slowly for any gain. */
const MOST_NONZEROS = 65536;
/** A WebAssembly function has at most 50,000 variables, of which a nonzero takes some. */
const MOST_IN_WASM = 8192;

/** Throws HeddleError ("unsupported") where there are too many nonzeros. */
export function patternOf(w: Pick<Csr, "rows" | "columns" | "pointers" | "column">, n: number, target: SimdTarget): Pattern {
  const nonzeros = w.column.length;
  const most = target.name === "wasm" ? MOST_IN_WASM : MOST_NONZEROS;
  if (nonzeros > most) throw new HeddleError("unsupported", `pattern as code: ${nonzeros} nonzeros, wanted at most ${most}`);
  const vectors = sparseVectors(n, target);
  const height = Math.floor((target.registers >= 32 ? 24 : 12) / vectors);
  const width = BLOCK * Math.max(1, Math.floor(PANEL_BYTES / (4 * BLOCK * vectors * target.lanes)));
  const place: number[] = [];
  const next = w.pointers.slice(0, w.rows);
  const group = (rows: readonly number[], end: number): PatternGroup => {
    const found = rows.flatMap((r, h) => {
      const first = next[r];
      while (next[r] < w.pointers[r + 1] && w.column[next[r]] < end) next[r]++;
      return Array.from({ length: next[r] - first }, (_, i) => ({ h, i: first + i, column: w.column[first + i] }));
    });
    found.sort((a, b) => a.column - b.column || a.h - b.h);
    const columns: { readonly column: number; readonly rows: number[] }[] = [];
    for (const { h, i, column } of found) {
      place.push(i);
      const last = columns[columns.length - 1];
      if (last?.column === column) last.rows.push(h);
      else columns.push({ column, rows: [h] });
    }
    return { rows, columns };
  };
  const panels = Array.from({ length: Math.ceil(w.columns / width) }, (_, p) =>
    blocksOf(w.rows, height).map((block) => block.map((rows) => group(rows, (p + 1) * width))),
  );
  return { rows: w.rows, depth: w.columns, n, nonzeros, vectors, panels, place: Int32Array.from(place) };
}

/** Rows in groups of `height`, in blocks. */
const blocksOf = (rows: number, height: number): number[][][] =>
  Array.from({ length: patternBlocks(rows) }, (_, i) => {
    const [from, to] = [i * BLOCK, Math.min(rows, (i + 1) * BLOCK)];
    return Array.from({ length: Math.ceil((to - from) / height) }, (_, g) =>
      Array.from({ length: Math.min(height, to - from - g * height) }, (_, h) => from + g * height + h),
    );
  });

/** Equal for patterns that have the same code. */
export const patternKey = ({ rows, depth, n, panels }: Pattern): string =>
  JSON.stringify([rows, depth, n, panels.flat(2).map((g) => g.columns.map((c) => [c.column, ...c.rows]))]);

/**
 * Buffers: values in the pattern's order, those of the dense side, the epilogue's inputs, output.
 * Without a side: operand (depth, n), output (rows, n).
 */
export function sparsePatternKernel(
  name: string,
  pattern: Pattern,
  epilogue: Epilogue,
  target: SimdTarget,
  threads: number,
  side: DenseSide<PanelBuffers> | null = null,
): Kernel {
  return new SparsePattern(name, pattern, epilogue, target, threads, side).build();
}

class SparsePattern {
  private readonly b: KernelBuilder;
  private readonly values: number;
  /** The operand, where there is no side. */
  private readonly x: number;
  private readonly dense: PanelBuffers | null;
  private readonly epilogue: EpilogueCode;
  private readonly scratch: number;
  private readonly shape: DenseShape;
  /** Columns of a tile, and bytes from one row of it to the next. */
  private readonly width: number;
  private readonly pitch: number;
  /** Whether the operand is a tile as it lies. */
  private readonly isPanel: boolean;
  /** Whether sums wait for what follows until all are there: it is too long to be written out for each row, or turns them around. */
  private readonly waits: boolean;
  /** Where sums that wait for the next panel, or for what follows, begin in scratch. */
  private readonly sums: number;

  constructor(
    name: string,
    private readonly pattern: Pattern,
    epilogue: Epilogue,
    private readonly target: SimdTarget,
    threads: number,
    side: DenseSide<PanelBuffers> | null,
  ) {
    const { rows, depth, n, nonzeros, vectors } = pattern;
    const b = new KernelBuilder(name, target, threads);
    this.b = b;
    this.width = vectors * target.lanes;
    this.pitch = this.width * 4;
    this.values = b.buffer("values", 4 * nonzeros, "read");
    this.shape = { rows, depth, n, block: BLOCK };
    this.dense = side ? side.declare(b, this.shape) : null;
    this.x = side ? -1 : b.buffer("x", 4 * depth * n, "read");
    this.epilogue = new EpilogueCode(b, epilogue, side ? side.columns(this.shape) : n);
    this.isPanel = !side && n === this.width;
    const isLong = this.epilogue.scratchBytes({ rows, vectors }, depth) > 0;
    this.waits = side !== null || isLong;
    this.sums = this.isPanel ? 0 : depth * this.pitch;
    const end = this.sums + (side ? BLOCK * patternBlocks(rows) : rows) * this.pitch; // a side's blocks are whole
    const waiting = side ? this.epilogue.scratchBytes({ rows: side.rowsAtOnce(target), vectors: 1 }, depth) : 0;
    this.scratch = b.buffer("scratch", end + waiting, "scratch");
    if (waiting > 0) this.epilogue.useScratch(this.scratch, end);
  }

  build(): Kernel {
    const { b, pattern, width } = this;
    shareOut(b, [Math.ceil(pattern.n / width), patternBlocks(pattern.rows)], ([tiles, blocks]) => {
      b.loop(tiles.from, tiles.to, 1, (t) => {
        if (!this.isPanel) this.onTile(t, (column, count) => this.fill(column, count));
        this.multiply(blocks, t);
        if (this.waits) this.finishAll(blocks, t);
      });
    });
    return b.build();
  }

  /** The code for sums is there once: as wide for the last tile, too, but not what fills panels and stores results. */
  private onTile(t: Int, part: (column: Int, count: number) => void): void {
    const { b, width } = this;
    const whole = Math.floor(this.pattern.n / width);
    const rest = this.pattern.n % width;
    if (rest === 0) part(times(t, width), width);
    else if (whole === 0) part(0, rest);
    else
      b.when(
        t,
        whole,
        () => part(times(b.min(t, whole - 1), width), width),
        () => part(whole * width, rest),
      );
  }

  private lanesOf(v: number, count: number): number {
    return Math.min(this.target.lanes, count - v * this.target.lanes);
  }

  private tile(column: Int, width: number, sums: Int): PanelTile {
    const { b, target, shape, scratch, pitch } = this;
    return { b, target, shape, scratch, rowBytes: pitch, blockColumns: Math.ceil(shape.depth / BLOCK), sums, column, width };
  }

  /** All of the operand as one panel. */
  private fill(column: Int, count: number): void {
    const { shape, dense } = this;
    const tile = this.tile(column, count, 0);
    const panel: Panel = { base: 0, from: 0, to: shape.depth, number: 0, end: shape.depth, isLast: (then) => then() };
    if (dense) dense.fillPanel(tile, panel);
    else copyPanel(tile, panel, this.x);
  }

  /** Sums of some blocks of rows, over one tile of columns. */
  private multiply(blocks: Part, tile: Int): void {
    const { b, pattern } = this;
    let next = 0;
    for (const [p, panel] of pattern.panels.entries())
      for (const [i, groups] of panel.entries()) {
        const first = next;
        next += groups.reduce((sum, g) => sum + g.columns.reduce((count, c) => count + c.rows.length, 0), 0);
        const block = (): void => this.block(groups, first, p, tile);
        const isShared = typeof blocks.from !== "number" || typeof blocks.to !== "number";
        if (isShared) b.when(blocks.from, i + 1, () => b.when(i, blocks.to, block));
        else block();
      }
  }

  /** `first`: the number of the block's first value. */
  private block(groups: readonly PatternGroup[], first: number, panel: number, tile: Int): void {
    const { b, pattern, pitch, target, scratch, sums } = this;
    const { vectors } = pattern;
    const vectorBytes = target.lanes * 4;
    const valueAt = nearby(b, 4);
    const sumAt = nearby(b, vectorBytes);
    const panelAt = nearby(b, vectorBytes);
    let next = first;
    for (const { rows, columns } of groups) {
      const at = (row: number, v: number): Int => sumAt(sums + row * pitch + v * vectorBytes);
      const zero = panel === 0 ? b.f32(0) : null;
      const totals = rows.map((row) => Array.from({ length: vectors }, (_, v) => (zero ? b.op("mov", zero) : b.load(scratch, at(row, v)))));
      for (const { column, rows } of columns) this.column(column, rows, totals, () => b.splat(this.values, valueAt(4 * next++)), panelAt);
      if (panel === pattern.panels.length - 1 && !this.waits) this.finish(rows, totals, tile);
      else for (const [h, row] of rows.entries()) for (const [v, total] of totals[h].entries()) b.store(total, scratch, at(row, v));
    }
  }

  private finish(rows: readonly number[], totals: readonly (readonly Vec[])[], tile: Int): void {
    const { lanes } = this.target;
    this.onTile(tile, (first, count) => {
      const column = (v: number): Int => plus(first, v * lanes);
      const used = Math.ceil(count / lanes);
      for (const [h, row] of rows.entries())
        this.epilogue.storeTile([totals[h].slice(0, used)], { row, rowStep: 1, column, lanesOf: (v) => this.lanesOf(v, count) });
    });
  }

  private finishAll({ from, to }: Part, tile: Int): void {
    const { b, pattern, pitch, scratch, sums, dense } = this;
    const { lanes } = this.target;
    this.onTile(tile, (first, count) => {
      if (dense) b.loop(from, to, 1, (i) => dense.store(this.tile(first, count, plus(sums, times(i, BLOCK * pitch))), i, this.epilogue));
      else
        b.loop(times(from, BLOCK), b.min(times(to, BLOCK), pattern.rows), 1, (row) => {
          for (let v = 0; v * lanes < count; v++) {
            const sum = b.load(scratch, plus(sums, times(row, pitch), v * lanes * 4));
            const column = plus(first, v * lanes);
            this.epilogue.storeTile([[sum]], { row, rowStep: 1, column: () => column, lanesOf: () => this.lanesOf(v, count) });
          }
        });
    });
  }

  /** The nonzeros of a group in one column: its row of the panel is loaded once for several. */
  private column(k: number, rows: readonly number[], totals: readonly Vec[][], value: () => Vec, panelAt: (at: number) => Int): void {
    const { b, scratch, pitch, target, pattern, isPanel } = this;
    // What registers are left.
    const atOnce = Math.max(1, target.registers - totals.length * pattern.vectors - 1);
    for (let first = 0; first < rows.length; first += atOnce) {
      const some = rows.slice(first, first + atOnce);
      const factors = some.map(value);
      for (let v = 0; v < pattern.vectors; v++) {
        const x = b.load(isPanel ? this.x : scratch, panelAt(k * pitch + v * target.lanes * 4));
        for (const [i, h] of some.entries()) b.accumulate(totals[h][v], factors[i], x);
      }
    }
  }
}

/** Addresses as what variables near them hold plus a displacement that fits one byte of an instruction, which counts in `unit`. */
function nearby(b: KernelBuilder, unit: number): (at: number) => Int {
  const middles = new Map<number, Int>();
  return (at) => {
    const window = Math.floor(at / (256 * unit));
    const centre = (window * 256 + 128) * unit;
    const middle = middles.get(window) ?? b.set(centre);
    middles.set(window, middle);
    return plus(middle, at - centre);
  };
}
