// Tensors written as IDX come back the same, gzipped or not, and other bytes are refused in one line.
import { gzipSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { readIdx, writeIdx } from "../../src/formats/idx.ts";
import type { DType } from "../../src/ir/dtype.ts";
import { fromNumbers } from "../../src/ir/tensor.ts";

describe("idx", () => {
  test.each<DType>(["u8", "i8", "i16", "i32", "f32", "f64"])("%s comes back, gzipped or not", (dtype) => {
    for (const shape of [[], [3], [2, 0], [2, 3, 4]]) {
      const count = shape.reduce((a, b) => a * b, 1);
      const tensor = fromNumbers(
        dtype,
        shape,
        Array.from({ length: count }, (_, i) => i + 1),
      );
      expect(readIdx(writeIdx(tensor))).toEqual(tensor);
      expect(readIdx(gzipSync(writeIdx(tensor)))).toEqual(tensor);
    }
  });

  test("reads the bytes of MNIST's description", () => {
    const labels = Uint8Array.from([0, 0, 8, 1, 0, 0, 0, 3, 5, 0, 4]);
    expect(readIdx(labels)).toEqual({ dtype: "u8", shape: [3], data: Uint8Array.of(5, 0, 4) });
    expect(readIdx(Uint8Array.from([0, 0, 0x0b, 1, 0, 0, 0, 1, 0xff, 0xfe])).data).toEqual(Int16Array.of(-2));
  });

  test.each([
    [new Uint8Array(2), "x: not an IDX file"],
    [Uint8Array.of(1, 2, 8, 0, 0), "x: not an IDX file"],
    [Uint8Array.of(0, 0, 7, 0, 0), "x: not an IDX file (element type 7)"],
    [Uint8Array.of(0, 0, 8, 2, 0, 0, 0, 1), "x: the file is cut short"],
    [Uint8Array.of(0, 0, 8, 1, 0, 0, 0, 4, 1), "x: 1 bytes of data, u8[4] has 4"],
    [Uint8Array.of(0, 0, 8, 2, 255, 255, 255, 255, 255, 255, 255, 255), "x: 0 bytes of data, u8[4294967295,4294967295] has 18446744065"],
    [Uint8Array.of(0x1f, 0x8b, 8, 0), "x: not a valid gzip file"],
  ])("refuses %#", (bytes, message) => {
    expect(() => readIdx(bytes, "x")).toThrow(message);
  });

  test("has no 64-bit integers", () => {
    expect(() => writeIdx(fromNumbers("i64", [1], [1]))).toThrow("idx: i64 has no IDX type (u8,i8,i16,i32,f32,f64 have)");
  });
});
