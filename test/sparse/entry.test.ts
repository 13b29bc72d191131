// heddle/sparse as a program uses it: a matrix from a file, products, statistics, and back to files; refusals as one line.
import { expect, test } from "vitest";
import {
  fromNumbers,
  HeddleError,
  packSparse,
  readMatrixMarket,
  readSafetensors,
  spgemm,
  spmm,
  statisticsOf,
  toCsb,
  toCsr,
  toDense,
  toInt8Rows,
  transpose,
  unpackSparse,
  validate,
  writeMatrixMarket,
  writeSafetensors,
} from "../../src/sparse.ts";

const text = "%%MatrixMarket matrix coordinate real general\n2 3 3\n1 1 2\n1 3 -1\n2 2 4\n";
const w = toCsr(readMatrixMarket(new TextEncoder().encode(text)));

test("a matrix is read, multiplied, described", () => {
  expect([...spmm(w, [1, 2, 3], 1)]).toEqual([-1, 8]);
  expect(toDense(spgemm(w, transpose(w))).data).toEqual(Float32Array.of(5, 0, 0, 16));
  expect(statisticsOf(w)).toMatchObject({ nonzeros: 3, density: 0.5 });
  expect([...toInt8Rows(w).matrix.values]).toEqual([127, -64, 127]);
});

test("through both kinds of files", () => {
  const { tensors, metadata } = packSparse({ w: toCsb(w) });
  const { matrices } = unpackSparse(readSafetensors(writeSafetensors(tensors, metadata)));
  expect(toDense(readMatrixMarket(writeMatrixMarket(matrices.w)))).toEqual(fromNumbers("f32", [2, 3], [2, 0, -1, 0, 4, 0]));
});

test("what contradicts itself is refused", () => {
  expect(() => validate({ ...w, pointers: Uint32Array.of(0, 3, 2) })).toThrow(HeddleError);
});
