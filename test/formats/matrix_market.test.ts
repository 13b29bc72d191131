// Matrix Market files of every kind are read, hostile ones are refused naming the line, and what is written reads back the same.
import { gzipSync } from "node:zlib";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { readMatrixMarket, writeMatrixMarket } from "../../src/formats/matrix_market.ts";
import { HeddleError } from "../../src/ir/error.ts";
import { fromNumbers, toNumbers } from "../../src/ir/tensor.ts";
import { toBitmap, toCoo, toCsb, toDense, withType } from "../../src/sparse/convert.ts";
import { anyMatrix, randomMatrix } from "../sparse/matrices.ts";

const file = (...lines: readonly string[]) => Buffer.from(`${lines.join("\n")}\n`);
const banner = (kind: string) => `%%MatrixMarket matrix ${kind}`;
const dense = (bytes: Uint8Array) => {
  const { shape, data } = toDense(readMatrixMarket(bytes));
  return Array.from({ length: shape[0] }, (_, r) => [...(data as Float32Array).slice(r * shape[1], (r + 1) * shape[1])]); // float32 by default
};

describe("reading", () => {
  test("coordinates, with comments, empty lines, tabs and Windows' line ends", () => {
    const text =
      "%%MatrixMarket MATRIX Coordinate Real General\r\n% made by hand\r\n\r\n2\t3  3\r\n1 3 1.5e1\r\n2 1 -.5\r\n\r\n%\r\n1 1 1D-1\r\n";
    expect(dense(Buffer.from(text))).toEqual([[Math.fround(0.1), 0, 15], [-0.5, 0, 0]]); // biome-ignore format: a matrix
  });
  test("the last line needs no end", () => {
    expect(dense(Buffer.from(`${banner("coordinate integer general")}\n1 1 1\n1 1 +7`))).toEqual([[7]]);
  });
  test("patterns are ones", () => {
    expect(dense(file(banner("coordinate pattern general"), "2 2 2", "1 2", "2 1"))).toEqual([[0, 1], [1, 0]]); // biome-ignore format: a matrix
  });
  test("symmetric: both halves, the diagonal once", () => {
    expect(dense(file(banner("coordinate real symmetric"), "3 3 3", "1 1 1", "2 1 2", "3 2 3"))).toEqual([[1, 2, 0], [2, 0, 3], [0, 3, 0]]); // biome-ignore format: a matrix
  });
  test("skew-symmetric: the other half negated", () => {
    expect(dense(file(banner("coordinate real skew-symmetric"), "2 2 1", "2 1 5"))).toEqual([[0, -5], [5, 0]]); // biome-ignore format: a matrix
  });
  test("arrays go column by column, zeros are left out", () => {
    const bytes = file(banner("array real general"), "2 3", "1", "2", "0", "4", "5", "6");
    expect(dense(bytes)).toEqual([[1, 0, 5], [2, 4, 6]]); // biome-ignore format: a matrix
    expect(readMatrixMarket(bytes).values.length).toBe(5);
  });
  test("symmetric and skew-symmetric arrays hold one triangle", () => {
    expect(dense(file(banner("array integer symmetric"), "2 2", "1", "2", "3"))).toEqual([[1, 2], [2, 3]]); // biome-ignore format: a matrix
    expect(dense(file(banner("array real skew-symmetric"), "3 3", "1", "2", "3"))).toEqual([[0, -1, -2], [1, 0, -3], [2, 3, 0]]); // biome-ignore format: a matrix
    expect(dense(file(banner("array real skew-symmetric"), "1 1"))).toEqual([[0]]);
  });
  test("empty matrices", () => {
    expect(readMatrixMarket(file(banner("coordinate real general"), "0 5 0"))).toMatchObject({ rows: 0, columns: 5 });
    expect(readMatrixMarket(file(banner("coordinate real general"), "4 5 0")).values.length).toBe(0);
  });
  test("NaN, infinities, and other types of values", () => {
    const bytes = file(banner("coordinate real general"), "1 3 3", "1 1 NaN", "1 2 -Inf", "1 3 0.1");
    expect([...toNumbers(toDense(readMatrixMarket(bytes, { dtype: "f64" })))]).toEqual([Number.NaN, Number.NEGATIVE_INFINITY, 0.1]);
    expect(readMatrixMarket(bytes, { dtype: "bf16" }).dtype).toBe("bf16");
  });
  test("gzipped", () => {
    const bytes = file(banner("coordinate real general"), "1 2 1", "1 2 3");
    expect(dense(gzipSync(bytes))).toEqual([[0, 3]]);
    expect(() => readMatrixMarket(gzipSync(bytes).subarray(0, 30), { what: "a.mtx.gz" })).toThrow("a.mtx.gz: not a valid gzip file");
  });
});

describe("refused", () => {
  const real = banner("coordinate real general");
  test.each<readonly [string, readonly string[]]>([
    ["line 1: not a Matrix Market file", [""]],
    ["line 1: not a Matrix Market file", ["1 1 1", "1 1 1"]],
    ["line 1: wanted: %%MatrixMarket matrix FORMAT FIELD SYMMETRY", ["%%MatrixMarket vector coordinate real general"]],
    ['line 1: "complex" is not supported (real, double, integer, pattern are)', [banner("coordinate complex general"), "1 1 0"]],
    ['line 1: "hermitian" is not supported', [banner("coordinate real hermitian"), "1 1 0"]],
    ['line 1: "" is not supported', [banner("coordinate real")]],
    ["the file ends where sizes should come", [real, "% nothing"]],
    ["line 2: wanted: ROWS COLUMNS ENTRIES", [real, "2 2"]],
    ["line 2: wanted: ROWS COLUMNS", [banner("array real general"), "2 2 4"]],
    ['line 2: "-2" is not a number from 0 to', [real, "-2 2 1"]],
    ['line 2: "99999999999" is not a number from 0 to 2147483647', [real, "99999999999 1 1"]],
    ["line 2: the file is too short for 2000000000 entries", [real, "9 9 2000000000"]],
    ["line 2: the file is too short for 60000×60000", [banner("array real symmetric"), "60000 60000"]],
    ["line 2: an array cannot have the field pattern", [banner("array pattern general"), "1 1"]],
    ["line 2: (2, 3) is not square, so it cannot be symmetric", [banner("coordinate real symmetric"), "2 3 0"]],
    ["the file ends where an entry should come", [real, "2 2 2", "1 1 1"]],
    ["line 3: an entry of 2 words, wanted ROW COLUMN VALUE", [real, "2 2 1", "1 1"]],
    ["line 3: an entry of 3 words, wanted ROW COLUMN", [banner("coordinate pattern general"), "2 2 1", "1 1 1"]],
    ["line 3: an entry of 2 words, wanted VALUE", [banner("array real general"), "1 2", "1 2", "3"]],
    ["line 3: index 0 is not from 1 to 2", [real, "2 2 1", "0 1 1"]],
    ["line 3: index 3 is not from 1 to 2", [real, "2 2 1", "1 3 1"]],
    ['line 3: "0x10" is not a number', [real, "2 2 1", "1 1 0x10"]],
    ['line 3: "1.5" is not a whole number', [banner("coordinate integer general"), "2 2 1", "1 1 1.5"]],
    ["line 3: the diagonal of a skew-symmetric matrix", [banner("coordinate real skew-symmetric"), "2 2 1", "1 1 1"]],
    ["(0, 1) is stored twice", [real, "2 2 2", "1 2 1", "1 2 2"]],
    ["(0, 1) is stored twice", [banner("coordinate real symmetric"), "2 2 2", "1 2 1", "2 1 1"]],
    ["line 4: there is more after the last entry", [real, "2 2 1", "1 1 1", "2 2 2"]],
    ["line 2: 5000 characters, lines have up to 1024", [real, `%${"x".repeat(4999)}`]],
  ])("%s", (why, lines) => {
    const read = () => readMatrixMarket(file(...lines));
    expect(read).toThrow(HeddleError);
    expect(read).toThrow(why);
  });

  test("whatever one byte is changed to: refused in one line, or a matrix", () => {
    const good = writeMatrixMarket(toCoo(randomMatrix(4, 5, 0.5)));
    fc.assert(
      fc.property(fc.nat(good.length - 1), fc.nat(255), fc.boolean(), (at, byte, cut) => {
        const broken = Uint8Array.from(cut ? good.subarray(0, at) : good);
        if (!cut) broken[at] = byte;
        try {
          expect(readMatrixMarket(broken).rows).toBeGreaterThanOrEqual(0);
        } catch (e) {
          expect(e).toBeInstanceOf(HeddleError);
          expect((e as Error).message).not.toContain("\n");
        }
      }),
      { numRuns: 500 },
    );
  });
});

describe("writing", () => {
  test("any matrix comes back exactly", () => {
    fc.assert(
      fc.property(anyMatrix, (m) => {
        expect(toDense(readMatrixMarket(writeMatrixMarket(toCsb(m))))).toEqual(m);
        expect(writeMatrixMarket(toBitmap(m))).toEqual(writeMatrixMarket(toCoo(m)));
      }),
      { numRuns: 30 },
    );
  });
  test("text", () => {
    const m = fromNumbers("i8", [2, 2], [0, -3, 4, 0]);
    expect(writeMatrixMarket(toCoo(m)).toString()).toBe("%%MatrixMarket matrix coordinate integer general\n2 2 2\n1 2 -3\n2 1 4\n");
    expect(writeMatrixMarket(toCoo(fromNumbers("f64", [1, 3], [Number.NaN, Number.NEGATIVE_INFINITY, 0.1]))).toString()).toContain(
      "1 1 NaN\n1 2 -Infinity\n1 3 0.1\n",
    );
    const half = withType(toCoo(fromNumbers("f32", [1, 1], [0.1])), "bf16");
    expect(readMatrixMarket(writeMatrixMarket(half), { dtype: "bf16" })).toEqual(half);
  });
});
