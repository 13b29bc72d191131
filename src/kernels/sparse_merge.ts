// Compressed sparse rows times dense by merge path (Yang et al. 2018): parts of equal numbers of rows and nonzeros, what they leave of cut rows is added up afterwards in their order.
import { type Int, type Kernel, KernelBuilder, plus, type SimdTarget, times } from "../ir/kernel.ts";
import { mergePath } from "../sparse/balance.ts";
import { type CsrShape, SegmentCode } from "./sparse_segment.ts";

/** Rows and nonzeros of a part: their number must not depend on threads, as the order of sums does on it. */
const PART = 1024;
const MOST_PARTS = 1024;

export interface MergeParts {
  readonly count: number;
  /** Where parts begin, and the end: whole rows and nonzeros before it. */
  readonly rows: Int32Array;
  readonly nonzeros: Int32Array;
}

export function mergePartsOf(pointers: Uint32Array): MergeParts {
  const rows = pointers.length - 1;
  const count = Math.min(MOST_PARTS, Math.ceil((rows + pointers[rows]) / PART));
  const points = mergePath(pointers, count);
  return { count, rows: Int32Array.from(points, (p) => p.row), nonzeros: Int32Array.from(points, (p) => p.nonzero) };
}

/** Buffers: pointers, rows and nonzeros of parts, columns, values (both padded), dense operand (depth, n), output (rows, n), what is left of cut rows (parts, n). */
export function sparseMergeKernel(name: string, shape: CsrShape, parts: number, target: SimdTarget, threads: number): Kernel {
  const { rows, n, nonzeros } = shape;
  const b = new KernelBuilder(name, target, threads);
  const pointers = b.buffer("pointers", 4 * (rows + 1), "read");
  const firstRows = b.buffer("rows", 4 * (parts + 1), "read");
  const firstNonzeros = b.buffer("nonzeros", 4 * (parts + 1), "read");
  const code = new SegmentCode(b, shape);
  const y = b.buffer("y", 4 * rows * n, "write");
  const left = b.buffer("left", 4 * parts * n, "write");
  b.parallel(parts, (part) => {
    const [row, end] = [0, 4].map((at) => b.loadInt(firstRows, plus(times(part, 4), at), "i32", 0, rows));
    const [first, last] = [0, 4].map((at) => b.loadInt(firstNonzeros, plus(times(part, 4), at), "i32", 0, nonzeros));
    code.overTiles((tile) => {
      b.loop(row, end, 1, (r) => {
        const sums = code.start(tile);
        const from = b.max(first, b.loadInt(pointers, times(r, 4), "i32", 0, nonzeros));
        code.addRun(sums, from, b.loadInt(pointers, plus(times(r, 4), 4), "i32", 0, nonzeros), tile);
        code.store(sums, y, r, tile);
      });
      const sums = code.start(tile);
      code.addRun(sums, b.max(first, b.loadInt(pointers, times(end, 4), "i32", 0, nonzeros)), last, tile);
      code.store(sums, left, part, tile);
    });
  });
  return b.build();
}

/** Adds what is left to the rows that it was cut from. Buffers: rows of parts, what is left, output. */
export function sparseMendKernel(name: string, { rows, n }: CsrShape, parts: number, target: SimdTarget): Kernel {
  const b = new KernelBuilder(name, target, 1);
  const firstRows = b.buffer("rows", 4 * (parts + 1), "read");
  const left = b.buffer("left", 4 * parts * n, "read");
  const y = b.buffer("y", 4 * rows * n, "readwrite");
  b.parallel(1, () =>
    b.loop(0, parts, 1, (part) => {
      const row = b.loadInt(firstRows, plus(times(part, 4), 4), "i32", 0, rows);
      b.when(row, rows, () => {
        const to = times(b.min(row, rows - 1), n * 4);
        const add = (at: Int, lanes: number): void => {
          const sum = b.op("add", b.load(y, plus(to, times(at, 4)), lanes), b.load(left, plus(times(part, n * 4), times(at, 4)), lanes));
          b.store(sum, y, plus(to, times(at, 4)), lanes);
        };
        const whole = n - (n % b.lanes);
        b.loop(0, whole, b.lanes, (at) => add(at, b.lanes));
        if (whole < n) add(whole, n - whole);
      });
    }),
  );
  return b.build();
}
