// Sparse times dense by code made for one pattern (SparseRT, Wang 2020): positions are displacements in the instructions, so that no index is read.
import { HeddleError } from "../ir/error.ts";
import { type Int, type Kernel, KernelBuilder, plus, type SimdTarget, times, type Vec } from "../ir/kernel.ts";
import type { Csr } from "../sparse/csr.ts";
import { type Epilogue, EpilogueCode } from "./epilogue.ts";
import { type DenseBuffers, type DenseSide, type PanelTile, type SparseProductShape, sparseVectors } from "./sparse_product.ts";
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
/** Of the dense operand's rows as many as that, in bytes, stay in the first-level cache. */
const PANEL_BYTES = 3 * BLOCK * 256;
/** Code takes 35 to 60 bytes a nonzero; more of it than this comes from memory too slowly for any gain. */
export const MOST_PATTERN_NONZEROS = 65536;

/** Throws HeddleError ("unsupported") where there are too many nonzeros. */
export function patternOf(w: Pick<Csr, "rows" | "columns" | "pointers" | "column">, n: number, target: SimdTarget): Pattern {
  const nonzeros = w.column.length;
  if (nonzeros > MOST_PATTERN_NONZEROS)
    throw new HeddleError("unsupported", `pattern as code: ${nonzeros} nonzeros, wanted at most ${MOST_PATTERN_NONZEROS}`);
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
  Array.from({ length: Math.ceil(rows / BLOCK) }, (_, i) => {
    const [from, to] = [i * BLOCK, Math.min(rows, (i + 1) * BLOCK)];
    return Array.from({ length: Math.ceil((to - from) / height) }, (_, g) =>
      Array.from({ length: Math.min(height, to - from - g * height) }, (_, h) => from + g * height + h),
    );
  });

/** Equal for patterns that have the same code. */
export const patternKey = ({ rows, depth, n, panels }: Pattern): string =>
  JSON.stringify([rows, depth, n, panels.flat(2).map((g) => g.columns.map((c) => [c.column, ...c.rows]))]);

/** Buffers: values in the pattern's order, those of the dense side (none given: operand (depth, n), result (rows, n)), the epilogue's inputs, output. */
export function sparsePatternKernel(
  name: string,
  pattern: Pattern,
  epilogue: Epilogue,
  target: SimdTarget,
  threads: number,
  side?: DenseSide,
): Kernel {
  return new SparsePattern(name, pattern, epilogue, target, threads, side).build();
}

class SparsePattern {
  private readonly b: KernelBuilder;
  private readonly shape: SparseProductShape;
  private readonly values: number;
  private readonly operand: number;
  private readonly dense: DenseBuffers;
  /** Whether the operand is a panel as it lies, and whether sums leave registers for the output. */
  private readonly isPanel: boolean;
  private readonly isDirect: boolean;
  private readonly epilogue: EpilogueCode;
  private readonly scratch: number;
  /** Columns of a tile, and bytes from one row of it to the next. */
  private readonly width: number;
  private readonly pitch: number;
  /** Where sums begin in scratch. */
  private readonly sums: number;

  constructor(
    name: string,
    private readonly pattern: Pattern,
    epilogue: Epilogue,
    private readonly target: SimdTarget,
    threads: number,
    given: DenseSide | undefined,
  ) {
    const { rows, depth, n, nonzeros, vectors } = pattern;
    const side = given ?? featuresFirst;
    const b = new KernelBuilder(name, target, threads);
    this.b = b;
    this.width = vectors * target.lanes;
    this.pitch = this.width * 4;
    this.shape = { rows, depth, n, block: BLOCK, strip: 1, length: nonzeros, groups: 0 };
    this.values = b.buffer("values", 4 * nonzeros, "read");
    this.operand = this.values + 1; // the first that it declares
    this.dense = side.declare(b, this.shape);
    this.epilogue = new EpilogueCode(b, epilogue, side.columns(this.shape));
    this.isPanel = !given && n === this.width;
    this.isDirect = !given && (n < this.width || n % this.width === 0);
    this.sums = this.isPanel ? 0 : panelRow(Math.ceil(depth / BLOCK) * BLOCK) * this.pitch;
    const end = this.sums + Math.ceil(rows / BLOCK) * BLOCK * this.pitch;
    const waiting = this.epilogue.scratchBytes({ rows: side.rowsAtOnce(target), vectors: 1 }, depth);
    this.scratch = b.buffer("scratch", end + waiting, "scratch");
    if (waiting > 0) this.epilogue.useScratch(this.scratch, end);
  }

  build(): Kernel {
    const { b, width, pattern } = this;
    const { n, rows } = pattern;
    const whole = Math.floor(n / width);
    const rest = n - whole * width;
    shareOut(b, [Math.ceil(n / width), Math.ceil(rows / BLOCK)], ([columns, blocks]) => {
      // The code is there once: the last tile is as wide for it, but not for what fills panels and stores results.
      b.loop(columns.from, columns.to, 1, (t) => {
        const either = (part: (column: Int, width: number) => void): void => {
          const some = () => part(times(rest === 0 ? t : b.min(t, whole - 1), width), width);
          const last = () => part(whole * width, rest);
          if (rest === 0) some();
          else if (whole === 0) last();
          else b.when(t, whole, some, last);
        };
        if (!this.isPanel) either((column, count) => this.dense.fill(this.tile(column, count)));
        this.multiply(blocks, times(t, width));
        if (this.isDirect) return;
        either((column, count) =>
          b.loop(blocks.from, blocks.to, 1, (i) => {
            const sums = plus(this.sums, times(i, BLOCK * this.pitch));
            this.dense.store({ ...this.tile(column, count), sums }, i, this.epilogue);
          }),
        );
      });
    });
    return b.build();
  }

  private tile(column: Int, width: number): PanelTile {
    const { b, target, shape, scratch, pitch, sums, pattern } = this;
    return { b, target, shape, scratch, rowBytes: pitch, blockColumns: Math.ceil(pattern.depth / BLOCK), sums, column, width };
  }

  /** Sums of some blocks of rows, over one tile of columns. */
  private multiply(blocks: Part, column: Int): void {
    const { b, pattern } = this;
    let next = 0;
    for (const [p, panel] of pattern.panels.entries())
      for (const [i, groups] of panel.entries()) {
        const first = next;
        next += groups.reduce((sum, g) => sum + g.columns.reduce((count, c) => count + c.rows.length, 0), 0);
        const block = (): void => this.block(groups, first, p, column);
        const isShared = typeof blocks.from !== "number" || typeof blocks.to !== "number";
        if (isShared) b.when(blocks.from, i + 1, () => b.when(i, blocks.to, block));
        else block();
      }
  }

  /** `first`: the number of the block's first value. */
  private block(groups: readonly PatternGroup[], first: number, panel: number, column: Int): void {
    const { b, pattern, pitch, target, scratch, sums, epilogue } = this;
    const { vectors, n } = pattern;
    const { lanes } = target;
    const isLast = this.isDirect && panel === pattern.panels.length - 1;
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
      for (const [h, row] of rows.entries())
        if (isLast)
          epilogue.storeTile([totals[h]], {
            row,
            rowStep: 1,
            column: (v) => plus(column, v * lanes),
            lanesOf: (v) => Math.min(lanes, n - v * lanes),
          });
        else for (const [v, total] of totals[h].entries()) b.store(total, scratch, at(row, v));
    }
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
        const x = b.load(isPanel ? this.operand : scratch, panelAt((isPanel ? k : panelRow(k)) * pitch + v * target.lanes * 4));
        for (const [i, h] of some.entries()) b.accumulate(totals[h][v], factors[i], x);
      }
    }
  }
}

/** A row follows each block: those who fill panels leave it free. */
const panelRow = (k: number): number => Math.floor(k / BLOCK) * (BLOCK + 1) + (k % BLOCK);

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

/** Operand (depth, n), result (rows, n). */
const featuresFirst: DenseSide = {
  columns: ({ n }) => n,
  sharesColumns: false,
  rowsAtOnce: () => 1,
  declare(b, { depth, n, rows }) {
    const x = b.buffer("x", 4 * depth * n, "read");
    const lines = (
      { target, shape, width }: PanelTile,
      block: Int,
      end: number,
      line: (row: Int, inBlock: Int, v: number, lanes: number) => void,
    ) => {
      const first = times(block, shape.block);
      b.loop(first, b.min(plus(first, shape.block), end), 1, (row) => {
        const inBlock = b.mod(row, shape.block);
        for (let v = 0; v * target.lanes < width; v++) line(row, inBlock, v, Math.min(target.lanes, width - v * target.lanes));
      });
    };
    return {
      fill(tile) {
        const { scratch, rowBytes, column, target, blockColumns, shape } = tile;
        b.loop(0, blockColumns, 1, (c) =>
          lines(tile, c, depth, (k, inBlock, v, lanes) => {
            const part = b.load(x, plus(times(k, n * 4), times(column, 4), v * target.lanes * 4), lanes);
            b.store(part, scratch, plus(times(c, (shape.block + 1) * rowBytes), times(inBlock, rowBytes), v * target.lanes * 4));
          }),
        );
      },
      store(tile, blockRow, epilogue) {
        const { scratch, rowBytes, column, target, sums } = tile;
        lines(tile, blockRow, rows, (row, inBlock, v, lanes) => {
          const sum = b.load(scratch, plus(sums, times(inBlock, rowBytes), v * target.lanes * 4));
          epilogue.storeTile([[sum]], { row, rowStep: 1, column: () => plus(column, v * target.lanes), lanesOf: () => lanes });
        });
      },
    };
  },
};
