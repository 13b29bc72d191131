// What a sparse matrix costs and how it is filled: bytes, nonzeros by row, fill of blocks, balance over threads.
import { cutByNonzeros } from "./balance.ts";
import { toCsr } from "./convert.ts";
import type { SparseMatrix } from "./matrix.ts";

export interface SparseStatistics {
  readonly nonzeros: number;
  readonly density: number;
  /** Of all arrays together. */
  readonly bytes: number;
  /** Bytes by elements of the dense matrix, zeros too. */
  readonly bytesPerElement: number;
  readonly rowNonzeros: { readonly min: number; readonly mean: number; readonly max: number };
  /** Blocks without nonzeros, then those filled up to 10 %, up to 20 %, …, up to 100 %. */
  readonly blockFill: readonly number[];
  /** Most nonzeros of a thread by their mean; 1 is perfect. */
  readonly imbalance: {
    /** Equal numbers of rows to each thread. */
    readonly equalRows: number;
    /** Rows cut where the nonzeros are halved, thirded, …. */
    readonly equalNonzeros: number;
  };
}

export interface StatisticsOptions {
  /** Rows and columns of the blocks whose fill is counted. */
  readonly block?: number;
  readonly threads?: number;
}

export function statisticsOf(m: SparseMatrix, { block = 64, threads = 2 }: StatisticsOptions = {}): SparseStatistics {
  const { rows, columns, pointers, column } = toCsr(m);
  const nonzeros = pointers[rows];
  const bytes = bytesOfArrays(m);
  const counts = Array.from({ length: rows }, (_, row) => pointers[row + 1] - pointers[row]);
  const equalRows = Uint32Array.from({ length: threads + 1 }, (_, t) => Math.floor((rows * t) / threads));
  const elements = rows * columns;
  return {
    nonzeros,
    density: elements === 0 ? 0 : nonzeros / elements,
    bytes,
    bytesPerElement: elements === 0 ? 0 : bytes / elements,
    rowNonzeros: {
      min: counts.reduce((a, b) => Math.min(a, b), rows === 0 ? 0 : columns),
      mean: rows === 0 ? 0 : nonzeros / rows,
      max: counts.reduce((a, b) => Math.max(a, b), 0),
    },
    blockFill: fillHistogram(rows, columns, pointers, column, block),
    imbalance: {
      equalRows: imbalanceOf(pointers, equalRows),
      equalNonzeros: imbalanceOf(pointers, cutByNonzeros(pointers, threads)),
    },
  };
}

const bytesOfArrays = (m: SparseMatrix): number =>
  Object.values(m).reduce<number>((sum, field) => sum + (ArrayBuffer.isView(field) ? field.byteLength : 0), 0);

function imbalanceOf(pointers: Uint32Array, cuts: Uint32Array): number {
  const parts = cuts.length - 1;
  const total = pointers[pointers.length - 1];
  let most = 0;
  for (let p = 0; p < parts; p++) most = Math.max(most, pointers[cuts[p + 1]] - pointers[cuts[p]]);
  return total === 0 ? 1 : (most * parts) / total;
}

/** Blocks at the edges are counted by the elements that they really have. */
function fillHistogram(rows: number, columns: number, pointers: Uint32Array, column: Uint32Array, block: number): number[] {
  const histogram = new Array<number>(11).fill(0);
  const across = Math.ceil(columns / block);
  for (let first = 0; first < rows; first += block) {
    const height = Math.min(block, rows - first);
    const counts = new Uint32Array(across);
    for (let i = pointers[first]; i < pointers[first + height]; i++) counts[Math.floor(column[i] / block)]++;
    for (let b = 0; b < across; b++) histogram[Math.ceil((10 * counts[b]) / (height * Math.min(block, columns - b * block)))]++;
  }
  return histogram;
}
