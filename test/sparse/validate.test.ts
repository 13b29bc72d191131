// Arrays that contradict each other are refused in one line, whatever was done to them.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { HeddleError } from "../../src/ir/error.ts";
import { fromNumbers } from "../../src/ir/tensor.ts";
import { toBitmap, toBsr, toCoo, toCsb, toCsc, toCsr, toDense, toNibble, toTwoFour } from "../../src/sparse/convert.ts";
import type { SparseMatrix } from "../../src/sparse/matrix.ts";
import { validate } from "../../src/sparse/validate.ts";
import { FORMATS, prunedTwoFour, randomMatrix } from "./matrices.ts";

const dense = randomMatrix(70, 75, 0.4, 9);
const coo = toCoo(dense);
const csr = toCsr(dense);
const csb = toCsb(dense, { block: 64 });
const bitmap = toBitmap(dense);
const nibble = toNibble(dense);
const bsr = toBsr(dense, 8);
const pairs = toTwoFour(prunedTwoFour(dense));

/** A copy with element `at` changed. */
function changed<A extends Uint8Array | Uint16Array | Uint32Array | Float32Array>(array: A, at: number, value: number): A {
  const copy = array.slice() as A; // slice keeps the type
  copy[at] = value;
  return copy;
}

describe("refused", () => {
  const count = csr.values.length;
  const cases: readonly (readonly [why: string, m: SparseMatrix])[] = [
    ["sizes must be whole numbers", { ...csr, rows: -1 }],
    ["sizes must be whole numbers", { ...csr, columns: 2 ** 31 }],
    ["sizes must be whole numbers", { ...csr, columns: 0.5 }],
    ["values are not an array of bf16", { ...csr, dtype: "bf16" }],
    ["sparse matrices of u8", { ...csr, dtype: "u8" as "f32" }],
    ['no format is called "ell"', { ...csr, kind: "ell" as "csr" }],
    ["pointers has 71 elements, wanted 72", { ...csr, rows: 71 }],
    ["pointers[0] is 1, wanted 0", { ...csr, pointers: changed(csr.pointers, 0, 1) }],
    ["they may not decrease", { ...csr, pointers: changed(csr.pointers, 5, 4_000_000_000) }],
    [`pointers end at ${count + 1}, ${count} elements are stored`, { ...csr, pointers: changed(csr.pointers, 70, count + 1) }],
    ["position 75 of nonzero 3 is not below 75", { ...csr, column: changed(csr.column, 3, 75) }],
    ["stored twice", { ...csr, column: changed(csr.column, 1, csr.column[0]) }],
    ["not sorted", { ...csr, column: changed(csr.column, 0, 74) }],
    [`positions has ${count - 1} elements, wanted ${count}`, { ...csr, column: csr.column.slice(1) }],
    ["positions is not a Uint32Array", { ...csr, column: Float64Array.from(csr.column) as unknown as Uint32Array }],
    ["position 70 of nonzero", { ...toCsc(dense), row: changed(toCsc(dense).row, 2, 70) }],
    ["nonzero 4 at (70, 0) is outside", { ...coo, row: changed(coo.row, 4, 70), column: changed(coo.column, 4, 0) }],
    [`(0, ${coo.column[0]}) is stored twice`, { ...coo, row: changed(coo.row, 9, 0), column: changed(coo.column, 9, coo.column[0]) }],
    [`row has ${count - 1} elements`, { ...coo, row: coo.row.slice(1) }],
    ["block 12, wanted 8, 16, 32", { ...bsr, block: 12 as 8 }],
    ["9×9 blocks, wanted 9×10 of 8×8", { ...bsr, blockColumns: 9 }],
    ["values are no whole blocks", { ...bsr, values: bsr.values.slice(1) }],
    ["is not below 10", { ...bsr, blockColumn: changed(bsr.blockColumn, 9, 10) }],
    ["lies outside and is not zero", { ...bsr, values: bsr.values.map((v) => v || 1) }],
    ["places has", { ...pairs, places: pairs.places.slice(1) }],
    ["values, wanted", { ...pairs, values: pairs.values.slice(1) }],
    ["row 0, group 0: places 2 and 1, wanted them to ascend", { ...pairs, places: changed(pairs.places, 0, 0b0110) }],
    ["lies outside and is not zero", { ...pairs, places: pairs.places.map(() => 0b1110_1110), values: pairs.values.map(() => 1) }],
    ["block 96, wanted a power of two", { ...csb, block: 96 }],
    ['order "hilbert"', { ...csb, order: "hilbert" as "z" }],
    ["row is not a Uint8Array", { ...csb, row: Uint16Array.from(csb.row) }],
    ["is outside 64×64", { ...csb, row: changed(csb.row as Uint8Array, 3, 64) }],
    ["is outside 6×11", { ...csb, column: changed(csb.column as Uint8Array, count - 1, 11) }],
    [
      "stored twice",
      { ...csb, row: changed(csb.row as Uint8Array, 1, csb.row[0]), column: changed(csb.column as Uint8Array, 1, csb.column[0]) },
    ],
    ["not sorted", { ...csb, order: "column" }],
    ["not sorted", { ...csb, order: "z" }],
    ["they may not decrease", { ...csb, pointers: changed(csb.pointers, 1, 2 ** 31) }],
    ["prefix[3] is", { ...bitmap, prefix: changed(bitmap.prefix, 3, 9) }],
    ["the bitmaps have", { ...bitmap, pointers: changed(bitmap.pointers, 1, 9) }],
    ["the bitmaps have", { ...bitmap, bits: changed(bitmap.bits, 7, ~bitmap.bits[7]) }],
    ["bits has", { ...bitmap, bits: bitmap.bits.slice(2) }],
    ["a bit is set at", movedOutside()],
    ["local has", { ...nibble, local: nibble.local.slice(1) }],
    ["1 nonzeros before its first group", { ...nibble, prefix: changed(nibble.prefix, 16, 1) }],
    ["group 2: from nonzero", { ...nibble, prefix: changed(nibble.prefix, 3, 0) }],
    ["stored twice", { ...nibble, local: changed(nibble.local, 1, nibble.local[0]) }],
    ["not sorted", { ...nibble, local: changed(nibble.local, 0, 255) }],
    ["is outside", { ...nibble, local: changed(nibble.local, count - 1, 255) }],
  ];
  test.each(cases)("%s", (why, m) => {
    expect(() => validate(m)).toThrow(HeddleError);
    expect(() => validate(m)).toThrow(why);
  });
});

/** The last bit of the last tile that has one, moved beyond the edge: all counts stay. */
function movedOutside(): SparseMatrix {
  const m = toBitmap(fromNumbers("f32", [1, 1], [1]));
  return { ...m, bits: changed(m.bits, 0, 2) };
}

test("NaN is a value like any other", () => {
  const m = toCsb(fromNumbers("f32", [1, 2], [Number.NaN, 1]));
  expect(validate(m)).toBe(m);
});

test("whatever one element is changed to: refused, or a matrix that unpacks", () => {
  const names = ["pointers", "column", "row", "blockColumn", "bits", "prefix", "local", "places"];
  fc.assert(
    fc.property(
      fc.constantFrom(...Object.values(FORMATS)),
      fc.constantFrom(...names),
      fc.nat(),
      fc.nat(2 ** 32 - 1),
      (convert, name, at, value) => {
        const m = convert(randomMatrix(20, 30, 0.3, 2));
        const array = Object.entries(m).find(([key]) => key === name)?.[1];
        fc.pre(ArrayBuffer.isView(array));
        const words = array as unknown as Uint32Array; // all these fields are arrays of whole numbers
        const broken = { ...m, [name]: changed(words, at % words.length, value) };
        try {
          validate(broken);
        } catch (e) {
          expect(e).toBeInstanceOf(HeddleError);
          return;
        }
        expect(toDense(broken).data.length).toBe(600);
      },
    ),
    { numRuns: 500 },
  );
});
