// Sparse matrices of every format go through safetensors files and come back the same, beside dense tensors; hostile files are refused.
import { describe, expect, test } from "vitest";
import { readSafetensors, type Safetensors, writeSafetensors } from "../../src/formats/safetensors.ts";
import { packSparse, unpackSparse } from "../../src/formats/sparse_safetensors.ts";
import { HeddleError } from "../../src/ir/error.ts";
import { fromNumbers } from "../../src/ir/tensor.ts";
import { toCsb, toTwoFour, withType } from "../../src/sparse/convert.ts";
import { FORMATS, prunedTwoFour, randomMatrix } from "../sparse/matrices.ts";

const dense = randomMatrix(70, 75, 0.3, 5);
const through = ({ tensors, metadata }: Safetensors) => unpackSparse(readSafetensors(writeSafetensors(tensors, metadata)));

describe("safetensors", () => {
  test("all formats in one file", () => {
    const matrices = {
      ...Object.fromEntries(Object.entries(FORMATS).map(([name, convert]) => [name, convert(dense)])),
      "2:4": toTwoFour(prunedTwoFour(dense)),
    };
    expect(through(packSparse(matrices))).toEqual({ matrices, tensors: {} });
  });

  test.each(["f32", "f64", "f16", "bf16", "i8"] as const)("values of %s, and a matrix without any", (dtype) => {
    const matrices = { w: withType(toCsb(dense), dtype), empty: toCsb(fromNumbers(dtype, [0, 4], [])) };
    expect(through(packSparse(matrices)).matrices).toEqual(matrices);
  });

  test("beside dense tensors", () => {
    const { tensors, metadata } = packSparse({ "fc.weight": toCsb(dense) });
    expect(Object.keys(tensors)).toEqual(["fc.weight.values", "fc.weight.pointers", "fc.weight.row", "fc.weight.column"]);
    const bias = fromNumbers("f32", [2], [1, 2]);
    const file = through({ tensors: { ...tensors, "fc.bias": bias }, metadata: { ...metadata, note: "x" } });
    expect(file).toEqual({ matrices: { "fc.weight": toCsb(dense) }, tensors: { "fc.bias": bias } });
    expect(unpackSparse({ tensors: { bias }, metadata: {} })).toEqual({ matrices: {}, tensors: { bias } });
  });
});

describe("refused", () => {
  const good = packSparse({ w: toCsb(dense, { block: 64 }) });
  const about = (description: unknown): Safetensors => ({ ...good, metadata: { "heddle.sparse": JSON.stringify({ w: description }) } });
  const fields = { kind: "csb", rows: 70, columns: 75, block: 64, order: "row" };
  const other = (name: string, tensor: unknown): Safetensors => ({
    ...good,
    tensors: { ...good.tensors, [name]: tensor } as Safetensors["tensors"],
  });

  test.each<readonly [string, Safetensors]>([
    ["its metadata heddle.sparse is not a JSON object", { ...good, metadata: { "heddle.sparse": "{" } }],
    ["its metadata heddle.sparse is not a JSON object", { ...good, metadata: { "heddle.sparse": "[]" } }],
    ["its description is not an object", about(3)],
    ['no format is called "toString"', about({ ...fields, kind: "toString" })],
    ["rows and columns are not numbers", about({ ...fields, rows: "70" })],
    ["block is not a number", about({ ...fields, block: "64" })],
    ["order is not a text", about({ ...fields, order: undefined })],
    ["the format has no block", about({ kind: "csr", rows: 70, columns: 75, block: 8 })],
    ["the format has no order", about({ kind: "csr", rows: 70, columns: 75, order: "row" })],
    ['"w": CSB (70, 75): block 65', about({ ...fields, block: 65 })],
    ['order "hilbert"', about({ ...fields, order: "hilbert" })],
    ["pointers has 5 elements, wanted", about({ ...fields, rows: 2 ** 31 - 1, columns: 2 ** 31 - 1 })],
    ["sizes must be whole numbers", about({ ...fields, rows: -70 })],
    ["sizes must be whole numbers", about({ ...fields, rows: 1e300 })],
    ['tensor "w.prefix" is missing', about({ kind: "bitmap", rows: 70, columns: 75 })],
    ['tensor "w.row" has the shape', other("w.row", { ...good.tensors["w.row"], shape: [1, good.tensors["w.row"].shape[0]] })],
    ['tensor "w.row" is of f32', other("w.row", fromNumbers("f32", [1], [0]))],
    ["sparse matrices of u32", other("w.values", good.tensors["w.pointers"])],
    ["row has ", other("w.values", fromNumbers("f32", [0], []))],
  ])("%s", (why, file) => {
    expect(() => unpackSparse(file)).toThrow(HeddleError);
    expect(() => unpackSparse(file)).toThrow(why);
  });
});
