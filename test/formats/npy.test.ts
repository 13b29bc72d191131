// Tensors written as .npy and .npz come back the same, and NumPy's own bytes are read.
import { describe, expect, it } from "vitest";
import { readNpy, writeNpy } from "../../src/formats/npy.ts";
import { readNpz, writeNpz } from "../../src/formats/npz.ts";
import type { DType } from "../../src/ir/dtype.ts";
import { fromNumbers, toNumbers } from "../../src/ir/tensor.ts";

const header = (dict: string, version = 1): Uint8Array => {
  const text = `${dict}\n`;
  const length = version === 1 ? [text.length & 255, text.length >> 8] : [text.length & 255, text.length >> 8, 0, 0];
  return Uint8Array.from([0x93, ...Buffer.from("NUMPY"), version, 0, ...length, ...Buffer.from(text)]);
};
const file = (dict: string, data: readonly number[], version = 1) => Uint8Array.from([...header(dict, version), ...data]);

describe("npy", () => {
  const kinds: DType[] = ["f32", "f64", "f16", "i8", "u8", "i16", "u16", "i32", "u32", "i64", "u64", "bool", "bf16", "f8e4m3fn", "f8e5m2"];
  it.each(kinds)("%s comes back", (dtype) => {
    for (const shape of [[], [3], [2, 0], [2, 3]]) {
      const count = shape.reduce((a, b) => a * b, 1);
      const tensor = fromNumbers(
        dtype,
        shape,
        Array.from({ length: count }, (_, i) => i % 2),
      );
      expect(readNpy(writeNpy(tensor))).toEqual(tensor);
    }
  });
  it("aligns data at 64 bytes, as NumPy does", () => {
    const bytes = writeNpy(fromNumbers("f32", [1], [1]));
    expect(bytes.length).toBe(128 + 4);
    expect(Buffer.from(bytes.subarray(10, 128)).toString()).toBe(
      `${"{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }".padEnd(117)}\n`,
    );
  });
  it("reads column-major and big-endian data, and later versions", () => {
    const columns = readNpy(file("{'descr': '|u1', 'fortran_order': True, 'shape': (2, 3), }", [1, 4, 2, 5, 3, 6]));
    expect([...toNumbers(columns)]).toEqual([1, 2, 3, 4, 5, 6]);
    const cube = readNpy(file("{'descr': '|u1', 'fortran_order': True, 'shape': (2, 1, 3), }", [1, 4, 2, 5, 3, 6], 2));
    expect([...toNumbers(cube)]).toEqual([1, 2, 3, 4, 5, 6]);
    expect([...toNumbers(readNpy(file("{'descr': '>i2', 'fortran_order': False, 'shape': (2,), }", [1, 2, 0xff, 0xff], 3)))]).toEqual([
      258, -1,
    ]);
  });
  it.each([
    [new Uint8Array(3), "x.npy: not an .npy file"],
    [file("{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }", [0]), "x.npy: 1 bytes of data, f32[2] has 8"],
    [file("{'descr': '<c8', 'fortran_order': False, 'shape': (), }", []), "x.npy: NumPy type c8 is not supported"],
    [file("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999, 99999999), }", []), "shape (99999999,99999999) is too large"],
    [file("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (), }", []), "x.npy: its header is not understood"],
    [header("{'descr': '<f4'").subarray(0, 14), "x.npy: the file is cut short"],
    [file("{}", [], 9), "x.npy: .npy version 9 is not known"],
  ])("refuses %#", (bytes, message) => {
    expect(() => readNpy(bytes, "x.npy")).toThrow(message);
  });
  it("names bfloat16 and float8 as ml_dtypes does", () => {
    const descr = (dtype: DType): string | undefined => /'descr': '(..?.)'/.exec(Buffer.from(writeNpy(fromNumbers(dtype, [1], [1]))).toString("latin1"))?.[1]; // biome-ignore format: short
    expect([descr("bf16"), descr("f8e4m3fn"), descr("f8e5m2")]).toEqual(["<V2", "<V1", "<f1"]);
  });
  it("does not write what would be read as another type", () => {
    expect(() => writeNpy(fromNumbers("f8e4m3fnuz", [1], [1]))).toThrow("npy: f8e4m3fnuz has no NumPy type; convert it to f32");
  });
});

describe("npz", () => {
  const tensors = { a: fromNumbers("f32", [2, 2], [1, 2, 3, 4]), "b/c": fromNumbers("i64", [1], [7]) };
  it.each([false, true])("comes back; compressed: %s", (compress) => {
    expect(readNpz(writeNpz(tensors, { compress }))).toEqual(tensors);
  });
  it("is the same for the same tensors", () => {
    expect(writeNpz(tensors)).toEqual(writeNpz(tensors));
  });
  it("refuses other files", () => {
    expect(() => readNpz(new Uint8Array(40))).toThrow("npz: not a valid archive");
  });
});
