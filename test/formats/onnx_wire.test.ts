// The wire format against an independent implementation (protobuf-es): both ways, every kind of field, and what must be refused.
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import { ATTRIBUTE, DIMENSION, MODEL, create as make, TENSOR } from "../../src/formats/onnx/messages.ts";
import { decode } from "../../src/formats/onnx/wire_reader.ts";
import { encode } from "../../src/formats/onnx/wire_writer.ts";
import { HeddleError } from "../../src/ir/error.ts";
import { AttributeProtoSchema, ModelProtoSchema, TensorProtoSchema } from "./protobuf/onnx_pb.ts";

const ATTRIBUTE_INIT = {
  name: "näme ✓", refAttrName: "ref", type: 7, f: -1.5, i: -(2n ** 63n), s: Uint8Array.of(0, 255), floats: [1, -0, Number.POSITIVE_INFINITY], ints: [0n, -1n, 2n ** 63n - 1n, 2n ** 32n, 127n, 128n], strings: [Uint8Array.of(7), new Uint8Array(0)],
}; // biome-ignore format: a table
const TENSOR_INIT = {
  name: "t", dims: [2n, 0n, 2n ** 40n], dataType: 1, rawData: Uint8Array.of(1, 2, 3), floatData: [0.5, Number.NaN], int32Data: [-1, 2 ** 31 - 1, -(2 ** 31)],
  int64Data: [-5n, 5n], doubleData: [Math.PI], uint64Data: [2n ** 64n - 1n, 2n ** 63n], externalData: [{ key: "k", value: "v" }], dataLocation: 1,
}; // biome-ignore format: a table
const MODEL_INIT = {
  irVersion: 10n, producerName: "p", opsetImport: [{ domain: "", version: 21n }, { domain: "d", version: 1n }],
  functions: [{ name: "f", domain: "d", overload: "o", input: ["a"], output: ["b"], node: [{ opType: "Neg", input: ["a", ""], output: ["b"] }], opsetImport: [{ version: 2n }], attributeProto: [{ name: "x", i: 1n }] }],
  graph: { name: "g", node: [{ name: "n", opType: "If", domain: "e", overload: "v", attribute: [{ name: "then", type: 5, g: { name: "inner" } }, { name: "all", graphs: [{ name: "one" }, { name: "two" }] }] }], initializer: [TENSOR_INIT], sparseInitializer: [{ values: TENSOR_INIT, indices: { int64Data: [0n, 5n] }, dims: [2n, 3n] }] },
}; // biome-ignore format: a table

/** Without what protobuf-es adds, and without empty fields. */
function plainly(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(plainly);
  if (typeof value !== "object" || value === null || value instanceof Uint8Array) return value;
  const isSet = (v: unknown) =>
    v !== undefined && v !== "" && v !== 0 && v !== 0n && !((Array.isArray(v) || v instanceof Uint8Array) && v.length === 0);
  return Object.fromEntries(Object.entries(value).filter(([name, v]) => !name.startsWith("$") && isSet(v)).sort(([a], [b]) => (a < b ? -1 : 1)).map(([name, v]) => [name, plainly(v)])); // biome-ignore format: one idea
}

describe("read and written as protobuf-es does", () => {
  it("attributes", () => {
    const theirs = create(AttributeProtoSchema, ATTRIBUTE_INIT);
    const ours = decode(ATTRIBUTE, toBinary(AttributeProtoSchema, theirs));
    expect(plainly(ours)).toEqual(plainly(theirs));
    expect(plainly(fromBinary(AttributeProtoSchema, encode(ATTRIBUTE, ours)))).toEqual(plainly(theirs));
  });
  it("tensors", () => {
    const theirs = create(TensorProtoSchema, TENSOR_INIT);
    const ours = decode(TENSOR, toBinary(TensorProtoSchema, theirs));
    expect(plainly(ours)).toEqual(plainly(theirs));
    expect(plainly(fromBinary(TensorProtoSchema, encode(TENSOR, ours)))).toEqual(plainly(theirs));
  });
  it("models", () => {
    const theirs = create(ModelProtoSchema, MODEL_INIT);
    const ours = decode(MODEL, toBinary(ModelProtoSchema, theirs));
    expect(plainly(ours)).toEqual(plainly(theirs));
    expect(plainly(fromBinary(ModelProtoSchema, encode(MODEL, ours)))).toEqual(plainly(theirs));
  });
  it("types of values", () => {
    const shape = { dim: [{ value: { case: "dimValue" as const, value: 0n } }, { value: { case: "dimParam" as const, value: "N" } }, {}] };
    const input = [{ name: "x", type: { value: { case: "tensorType" as const, value: { elemType: 7, shape } } } }, { name: "y", type: { value: { case: "optionalType" as const, value: {} } } }, { name: "z" }]; // biome-ignore format: a table
    const bytes = toBinary(ModelProtoSchema, create(ModelProtoSchema, { graph: { input } }));
    const ours = decode(MODEL, bytes);
    expect(ours.graph?.input.map((v) => v.type?.tensorType?.shape?.dim.map((d) => d.dimValue ?? d.dimParam))).toEqual([[0n, "N", undefined], undefined, undefined]); // biome-ignore format: one idea
    expect(ours.graph?.input.map((v) => v.type && Object.values(v.type).filter((t) => t !== undefined).length)).toEqual([1, 1, undefined]);
    expect(encode(MODEL, ours)).toEqual(new Uint8Array(bytes));
    expect(encode(DIMENSION, make(DIMENSION, { dimValue: 0n }))).toEqual(Uint8Array.of(8, 0));
  });
});

const refusal = (...bytes: number[]): string => {
  try {
    decode(MODEL, Uint8Array.from(bytes));
    return "accepted";
  } catch (e) {
    expect(e).toBeInstanceOf(HeddleError);
    return (e as HeddleError).code;
  }
};
const LONG = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];

describe("reading", () => {
  it("takes lists of numbers packed or one by one, and skips fields it does not know", () => {
    expect(decode(ATTRIBUTE, Uint8Array.of(0x40, 1, 0x42, 2, 2, 3, 0x40, 4)).ints).toEqual([1n, 2n, 3n, 4n]);
    expect(decode(ATTRIBUTE, Uint8Array.of(0x0a, 1, 65, 0xf8, 0x07, 5, 0xf9, 0x07, 1, 2, 3, 4, 5, 6, 7, 8, 0xfa, 0x07, 1, 9, 0xfd, 0x07, 1, 2, 3, 4, 0x18, 6))).toMatchObject({ name: "A", i: 6n }); // biome-ignore format: one idea
  });
  it("reads a message that is there twice into one", () => {
    expect(decode(MODEL, Uint8Array.of(0x3a, 3, 0x12, 1, 65, 0x3a, 4, 0x0a, 2, 0x1a, 0)).graph).toMatchObject({
      name: "A",
      node: [{ name: "" }],
    });
  });
  it("gives views of the bytes", () => {
    const bytes = Uint8Array.of(0x4a, 2, 7, 8);
    expect(decode(TENSOR, bytes).rawData.buffer).toBe(bytes.buffer);
  });
  it.each([
    ["nothing", [], "accepted"],
    ["a number that does not end", [0x08, 0x80], "bad-model"],
    ["a number of ten bytes", [0x08, ...LONG, 1], "accepted"],
    ["a number of eleven bytes", [0x08, ...LONG, 0x81, 0], "bad-model"],
    ["a text longer than the file", [0x12, 5, 65], "bad-model"],
    ["a length of 2^63", [0x12, ...LONG, 1], "bad-model"],
    ["a message longer than the one around it", [0x3a, 2, 0x12, 4, 65, 65, 65, 65], "bad-model"],
    ["field 0", [0x00, 1], "bad-model"],
    ["a group", [0xf3, 0x07, 0xf4, 0x07], "bad-model"],
    ["wire type 7", [0xff, 0x07], "bad-model"],
    ["a text where a number belongs", [0x0a, 1, 65], "bad-model"],
    ["a number where a message belongs", [0x38, 1], "bad-model"],
  ])("%s", (_, bytes, wanted) => expect(refusal(...bytes)).toBe(wanted));
  it("limits how deep messages are nested", () => {
    let bytes: number[] = [];
    const length = (n: number) => (n < 128 ? [n] : [(n & 127) | 128, n >> 7]);
    const tags = [0x32, 0x2a, 0x0a]; // graph in attribute in node
    for (let i = 0; i < 150; i++) bytes = [tags[i % 3], ...length(bytes.length), ...bytes];
    expect(refusal(0x3a, ...length(bytes.length), ...bytes)).toBe("limit");
  });
});
