// Matrices that tests of sparse formats draw from, and all formats of one.
import fc from "fast-check";
import type { TensorData } from "../../src/ir/tensor.ts";
import { type AnyMatrix, toBitmap, toBsr, toCoo, toCsb, toCsc, toCsr, toNibble } from "../../src/sparse/convert.ts";
import type { SparseMatrix } from "../../src/sparse/matrix.ts";

/** Numbers in [0, 1) that a seed decides. */
export function randomNumbers(seed: number): () => number {
  let state = (seed * 2654435761) >>> 0 || 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    state >>>= 0;
    return state / 2 ** 32;
  };
}

/** Values in [-1, 1) without zeros at places that `seed` decides. */
export function randomMatrix(rows: number, columns: number, density: number, seed = 1): TensorData {
  const random = randomNumbers(seed);
  const data = new Float32Array(rows * columns);
  for (let i = 0; i < data.length; i++) if (random() < density) data[i] = random() * 2 - 1 || 1;
  return { dtype: "f32", shape: [rows, columns], data };
}

/** The same with some rows empty and others full, and a first element. */
export function unevenMatrix(rows: number, columns: number, density: number): TensorData {
  const { data, ...type } = randomMatrix(rows, columns, density, rows * 31 + columns);
  const random = randomNumbers(rows + columns);
  for (let r = 3; r < rows; r += 7) (data as Float32Array).fill(0, r * columns, (r + 1) * columns);
  for (let r = 5; r < rows; r += 41) for (let c = 0; c < columns; c++) data[r * columns + c] = random() * 2 - 1;
  data[0] = 0.5;
  return { ...type, data };
}

/** The matrix with at most two of four neighbours left. */
export function prunedTwoFour({ dtype, shape, data }: TensorData): TensorData {
  const [rows, columns] = shape;
  const out = Float32Array.from(data as Float32Array); // made by randomMatrix
  for (let row = 0; row < rows; row++)
    for (let group = 0; group < columns; group += 4) {
      let left = 2;
      for (let c = group; c < Math.min(group + 4, columns); c++)
        if (out[row * columns + c] !== 0 && left-- <= 0) out[row * columns + c] = 0;
    }
  return { dtype, shape, data: out };
}

/** Each format by a name, 2:4 apart: it does not hold all matrices. */
export const FORMATS: Readonly<Record<string, (m: AnyMatrix) => SparseMatrix>> = {
  COO: toCoo,
  CSR: toCsr,
  CSC: toCsc,
  "BSR 8": (m) => toBsr(m, 8),
  "BSR 16": (m) => toBsr(m, 16),
  "BSR 32": (m) => toBsr(m, 32),
  "CSB 8": (m) => toCsb(m, { block: 8 }),
  "CSB 64": (m) => toCsb(m, { block: 64 }),
  "CSB 128 by columns": (m) => toCsb(m, { block: 128, order: "column" }),
  "CSB 64 in Z-order": (m) => toCsb(m, { block: 64, order: "z" }),
  "CSB 512 in Z-order": (m) => toCsb(m, { block: 512, order: "z" }),
  "CSB 1024": (m) => toCsb(m, { block: 1024 }),
  "bitmap CSB": toBitmap,
  "nibble CSB": toNibble,
};

/** Any sizes and densities: empty, full, one row, one column, ragged edges. */
export const anyMatrix = fc
  .record({
    rows: fc.oneof(fc.constantFrom(0, 1, 64, 65), fc.nat(150)),
    columns: fc.oneof(fc.constantFrom(0, 1, 64, 65), fc.nat(150)),
    density: fc.constantFrom(0, 0.01, 0.1, 0.5, 1),
    seed: fc.nat(),
  })
  .map(({ rows, columns, density, seed }) => randomMatrix(rows, columns, density, seed));
