// Tensors written as safetensors come back the same, Python's own bytes are read, and hostile headers are refused in one line.
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, describe, expect, test } from "vitest";
import {
  loadSafetensors,
  openSafetensors,
  readSafetensors,
  saveSafetensors,
  type Tensors,
  writeSafetensors,
} from "../../src/formats/safetensors.ts";
import { DTYPES, type DType } from "../../src/ir/dtype.ts";
import { bytesOf, fromNumbers, type TensorData, toNumbers } from "../../src/ir/tensor.ts";

const folder = mkdtempSync(join(tmpdir(), "heddle-safetensors-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const dtypes = Object.keys(DTYPES) as DType[];
const all: Tensors = Object.fromEntries(
  dtypes.map((dtype, i) => [
    `layers.${i}.${dtype}`,
    fromNumbers(
      dtype,
      [2, i],
      Array.from({ length: 2 * i }, (_, k) => k % 2),
    ),
  ]),
);

/** What a tensor is, for comparing: views of different alignment are equal. */
const plain = (tensors: Tensors) =>
  Object.fromEntries(Object.entries(tensors).map(([name, t]) => [name, [t.dtype, [...t.shape], Buffer.from(bytesOf(t)).toString("hex")]]));

/** A file with this header, taken literally. */
function file(header: unknown, data: Uint8Array = new Uint8Array(0)): Uint8Array {
  const json = Buffer.from(typeof header === "string" ? header : JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  return Uint8Array.from(Buffer.concat([length, json, data]));
}
const row = (dtype: string, shape: unknown, ...data_offsets: unknown[]) => ({ dtype, shape, data_offsets });

describe("safetensors", () => {
  test("all types and metadata come back", () => {
    const { tensors, metadata } = readSafetensors(writeSafetensors(all, { format: "pt", note: "ü" }));
    expect(plain(tensors)).toEqual(plain(all));
    expect(metadata).toEqual({ format: "pt", note: "ü" });
  });

  test("any names, shapes and bytes come back", () => {
    const tensor = fc
      .record({ dtype: fc.constantFrom(...dtypes), shape: fc.array(fc.nat(3), { maxLength: 4 }), seed: fc.nat(255) })
      .map(({ dtype, shape, seed }): TensorData => {
        const count = shape.reduce((a, b) => a * b, 1);
        return fromNumbers(
          dtype,
          shape,
          Array.from({ length: count }, (_, i) => (seed * (i + 1)) % 101),
        );
      });
    const name = fc.string({ unit: "grapheme" }).filter((text) => text !== "__metadata__");
    fc.assert(
      fc.property(fc.array(fc.tuple(name, tensor), { maxLength: 6 }), (entries) => {
        const tensors = Object.fromEntries(entries);
        const bytes = writeSafetensors(tensors);
        expect(plain(readSafetensors(bytes).tensors)).toEqual(plain(tensors));
        expect(writeSafetensors(Object.fromEntries(Object.entries(tensors).reverse()))).toEqual(bytes); // whatever the order
      }),
      { numRuns: 100 },
    );
  });

  test("tensors are views of an aligned file, and copied from others only when they are read", () => {
    const bytes = writeSafetensors({ w: fromNumbers("f32", [2], [1, 2]) });
    const { w } = readSafetensors(bytes).tensors;
    expect(w.data.buffer).toBe(bytes.buffer);
    const shifted = new Uint8Array(bytes.length + 1);
    shifted.set(bytes, 1);
    const other = readSafetensors(shifted.subarray(1)).tensors.w;
    expect(bytesOf(other).buffer).toBe(shifted.buffer);
    expect([...toNumbers(other)]).toEqual([1, 2]);
  });

  test("a file written by Python's package is read, and ours are the same bytes", () => {
    // save({"b": float16 [1, -2], "a": int64 [[3]], "c": float32 []}, metadata={"format": "np"})
    const header = `{"__metadata__":{"format":"np"},"a":{"dtype":"I64","shape":[1,1],"data_offsets":[0,8]},"c":{"dtype":"F32","shape":[0],"data_offsets":[8,8]},"b":{"dtype":"F16","shape":[2],"data_offsets":[8,12]}}`;
    const python = file(header.padEnd(Math.ceil(header.length / 8) * 8), Uint8Array.from([3, 0, 0, 0, 0, 0, 0, 0, 0, 0x3c, 0, 0xc0]));
    const { tensors, metadata } = readSafetensors(python);
    expect([...toNumbers(tensors.b)]).toEqual([1, -2]);
    expect(tensors.a.data).toEqual(new BigInt64Array([3n]));
    expect(writeSafetensors(tensors, metadata)).toEqual(python);
  });

  test("a file is read tensor by tensor", async () => {
    const path = join(folder, "all.safetensors");
    await saveSafetensors(path, all, { format: "pt" });
    expect(new Uint8Array(readFileSync(path))).toEqual(writeSafetensors(all, { format: "pt" }));
    expect(plain((await loadSafetensors(path)).tensors)).toEqual(plain(all));
    await using open = await openSafetensors(path);
    expect(open.names.toSorted()).toEqual(Object.keys(all).toSorted());
    expect(open.typeOf("layers.3.bf16")).toBeUndefined();
    for (const name of open.names) expect(plain({ t: await open.read(name) })).toEqual(plain({ t: all[name] }));
    await expect(open.read("nothing")).rejects.toThrow(`${path}: has no tensor "nothing"`);
    expect(readdirSync(folder)).toEqual(["all.safetensors"]); // nothing temporary is left
  });

  test.each([
    [new Uint8Array(3), "x: not a safetensors file (3 bytes)"],
    [Uint8Array.from([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]), "x: not a safetensors file, or a header of"],
    [file({}).subarray(0, 9), "x: cut short inside its header"],
    [file("{"), "x: its safetensors header is not JSON"],
    [file("\xff"), "x: its safetensors header is not JSON"],
    [file([]), "x: its safetensors header is not an object"],
    [file({ __metadata__: { a: 1 } }), "x: __metadata__ may hold texts only"],
    [file({ a: 1 }), 'x: tensor "a": its description is not an object'],
    [file({ a: row("F7", [], 0, 0) }), 'x: tensor "a": type F7 (supported: F64,F32'],
    [file({ a: row("F32", "2", 0, 8) }), 'x: tensor "a": its shape is not a list of sizes'],
    [file({ a: row("F32", [-1], 0, 4) }), 'x: tensor "a": its shape is not a list of sizes'],
    [file({ a: row("F32", [1.5], 0, 6) }), 'x: tensor "a": its shape is not a list of sizes'],
    [file({ a: row("U8", [1e300], 0, 1e300) }), 'x: tensor "a": its shape is not a list of sizes'],
    [file({ a: row("U8", [2 ** 40, 2 ** 40], 0, 8) }), "8 bytes of data, u8[1099511627776,1099511627776] has 1.2"],
    [file({ a: row("U8", new Array(65).fill(1), 0, 1) }), 'x: tensor "a": its shape is not a list of sizes'],
    [file({ a: row("U8", [1], 0) }), 'x: tensor "a": its data_offsets are not two numbers'],
    [file({ a: row("U8", [1], 5, 4) }), 'x: tensor "a": -1 bytes of data, u8[1] has 1'],
    [file({ a: row("U8", [1], 0, 1) }), "x: 0 bytes of data, its tensors have 1"],
    [file({ a: row("U8", [1], 0, 1) }, new Uint8Array(2)), "x: 2 bytes of data, its tensors have 1"],
    [file({ a: row("U8", [1], 1, 2) }, new Uint8Array(2)), 'x: tensor "a" starts at byte 1, not at 0'],
    [file({ a: row("U8", [2], 0, 2), b: row("U8", [2], 1, 3) }, new Uint8Array(3)), 'x: tensor "b" starts at byte 1, not at 2'],
    [file({ a: row("BOOL", [1], 0, 1) }, Uint8Array.of(2)), 'x: tensor "a": a BOOL is neither 0 nor 1'],
  ])("refuses %#", (bytes, message) => {
    expect(() => readSafetensors(bytes, "x")).toThrow(message);
  });

  test("damaged files are refused or read, never anything else", () => {
    const good = writeSafetensors(all, { format: "pt" });
    fc.assert(
      fc.property(fc.nat(good.length - 1), fc.nat(255), fc.nat(good.length), (at, byte, length) => {
        const bytes = good.slice(0, length);
        if (at < length) bytes[at] = byte;
        try {
          for (const tensor of Object.values(readSafetensors(bytes).tensors)) toNumbers(tensor);
        } catch (error) {
          expect(error).toHaveProperty("name", "HeddleError");
        }
      }),
      { numRuns: 500 },
    );
  });

  test("refuses to write what would not come back", async () => {
    expect(() => writeSafetensors({ __metadata__: all["layers.0.f32"] })).toThrow("a tensor cannot be called __metadata__");
    expect(() => writeSafetensors({ a: { dtype: "f32", shape: [3], data: new Float32Array(2) } })).toThrow("a: 8 bytes, f32[3] has 12");
    await expect(saveSafetensors(join(folder, "no/x.safetensors"), {})).rejects.toThrow("its folder does not exist");
    await expect(openSafetensors(join(folder, "none"))).rejects.toThrow("cannot be opened");
    writeFileSync(join(folder, "short"), "abc");
    await expect(openSafetensors(join(folder, "short"))).rejects.toThrow("not a safetensors file (3 bytes)");
  });
});
