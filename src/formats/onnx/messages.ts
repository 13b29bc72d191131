// The messages of an ONNX file (onnx.proto, IR version 10), as far as heddle reads them: what each holds, and its fields on the wire.

export interface AttributeProto {
  readonly name: string;
  readonly refAttrName: string;
  /** One of AttributeType. */
  readonly type: number;
  readonly f: number;
  readonly i: bigint;
  readonly s: Uint8Array;
  readonly t?: TensorProto;
  readonly g?: GraphProto;
  readonly floats: readonly number[];
  readonly ints: readonly bigint[];
  readonly strings: readonly Uint8Array[];
  readonly graphs: readonly GraphProto[];
}

export const AttributeType = {
  UNDEFINED: 0, FLOAT: 1, INT: 2, STRING: 3, TENSOR: 4, GRAPH: 5, FLOATS: 6, INTS: 7, STRINGS: 8, TENSORS: 9, GRAPHS: 10,
  SPARSE_TENSOR: 11, SPARSE_TENSORS: 12, TYPE_PROTO: 13, TYPE_PROTOS: 14,
} as const; // biome-ignore format: a table

export interface ValueInfoProto {
  readonly name: string;
  readonly type?: TypeProto;
}

export interface NodeProto {
  readonly input: readonly string[];
  readonly output: readonly string[];
  readonly name: string;
  readonly opType: string;
  readonly domain: string;
  readonly overload: string;
  readonly attribute: readonly AttributeProto[];
}

export interface ModelProto {
  readonly irVersion: bigint;
  readonly producerName: string;
  readonly opsetImport: readonly OperatorSetIdProto[];
  readonly graph?: GraphProto;
  readonly functions: readonly FunctionProto[];
}

export interface StringStringEntryProto {
  readonly key: string;
  readonly value: string;
}

export interface GraphProto {
  readonly name: string;
  readonly node: readonly NodeProto[];
  readonly initializer: readonly TensorProto[];
  readonly sparseInitializer: readonly SparseTensorProto[];
  readonly input: readonly ValueInfoProto[];
  readonly output: readonly ValueInfoProto[];
}

export interface TensorProto {
  readonly name: string;
  readonly dims: readonly bigint[];
  /** ONNX's number of the element type: ir/dtype.ts. */
  readonly dataType: number;
  readonly segment?: object;
  readonly rawData: Uint8Array;
  readonly floatData: readonly number[];
  readonly int32Data: readonly number[];
  readonly int64Data: readonly bigint[];
  readonly doubleData: readonly number[];
  readonly uint64Data: readonly bigint[];
  readonly externalData: readonly StringStringEntryProto[];
  /** 1: the data lies outside of the file. */
  readonly dataLocation: number;
}

/** Nonzeros and where they lie; the name is that of the values. */
export interface SparseTensorProto {
  readonly values?: TensorProto;
  readonly indices?: TensorProto;
  readonly dims: readonly bigint[];
}

/** A size: a number, a name, or neither where nothing is known. */
export interface Dimension {
  readonly dimValue?: bigint;
  readonly dimParam?: string;
}

export interface ShapeProto {
  readonly dim: readonly Dimension[];
}

export interface TensorTypeProto {
  readonly elemType: number;
  readonly shape?: ShapeProto;
}

/** One of them is there; heddle takes tensors only. */
export interface TypeProto {
  readonly tensorType?: TensorTypeProto;
  readonly sequenceType?: object;
  readonly mapType?: object;
  readonly sparseTensorType?: object;
  readonly optionalType?: object;
}

export interface OperatorSetIdProto {
  readonly domain: string;
  readonly version: bigint;
}

export interface FunctionProto {
  readonly name: string;
  readonly domain: string;
  readonly overload: string;
  readonly input: readonly string[];
  readonly output: readonly string[];
  readonly node: readonly NodeProto[];
  readonly attributeProto: readonly AttributeProto[];
  readonly opsetImport: readonly OperatorSetIdProto[];
}

export type Scalar = "string" | "bytes" | "int32" | "int64" | "uint64" | "float" | "double";

/** How values are stored: what follows a field's number. */
export const VARINT = 0;
export const BYTES8 = 1;
export const LENGTH = 2;
export const BYTES4 = 5;

export const WIRE: Readonly<Record<Scalar, number>> = {
  string: LENGTH, bytes: LENGTH, int32: VARINT, int64: VARINT, uint64: VARINT, float: BYTES4, double: BYTES8,
}; // biome-ignore format: a table

/** A field: its name here, and its type; `many` make a list. */
export interface Field {
  readonly name: string;
  readonly type: Scalar | Message;
  readonly many: boolean;
}

/** How a message is read and written. */
export interface Message<T = unknown> {
  readonly name: string;
  /** Without any field set; all fields are there, so that every object of a message has one layout in the JavaScript engine. */
  readonly empty: () => T;
  /** By number; filled below, as messages hold each other. */
  readonly fields: (Field | undefined)[];
}

/** A message of which only some fields are given. */
export const create = <T extends object>({ empty }: Message<T>, given: Partial<T>): T => ({ ...empty(), ...given });

const message = <T>(name: string, empty: () => T): Message<T> => ({ name, empty, fields: [] });

/** An absent list, and absent bytes; nobody writes to them. */
export const NONE: readonly never[] = [];
const NO_BYTES = new Uint8Array(0);

export const ATTRIBUTE = message("attribute", (): AttributeProto => ({
  name: "", refAttrName: "", type: 0, f: 0, i: 0n, s: NO_BYTES, t: undefined, g: undefined, floats: NONE, ints: NONE, strings: NONE, graphs: NONE,
})); // biome-ignore format: a table
export const VALUE = message("value info", (): ValueInfoProto => ({ name: "", type: undefined }));
export const NODE = message(
  "node",
  (): NodeProto => ({ input: NONE, output: NONE, name: "", opType: "", domain: "", overload: "", attribute: NONE }),
);
export const MODEL = message(
  "model",
  (): ModelProto => ({ irVersion: 0n, producerName: "", opsetImport: NONE, graph: undefined, functions: NONE }),
);
export const GRAPH = message(
  "graph",
  (): GraphProto => ({ name: "", node: NONE, initializer: NONE, sparseInitializer: NONE, input: NONE, output: NONE }),
);
export const TENSOR = message("tensor", (): TensorProto => ({
  name: "", dims: NONE, dataType: 0, segment: undefined, rawData: NO_BYTES, floatData: NONE, int32Data: NONE, int64Data: NONE, doubleData: NONE,
  uint64Data: NONE, externalData: NONE, dataLocation: 0,
})); // biome-ignore format: a table
export const SPARSE_TENSOR = message("sparse tensor", (): SparseTensorProto => ({ values: undefined, indices: undefined, dims: NONE }));
export const ENTRY = message("entry", (): StringStringEntryProto => ({ key: "", value: "" }));
const TYPE = message("type", (): TypeProto => ({
  tensorType: undefined, sequenceType: undefined, mapType: undefined, sparseTensorType: undefined, optionalType: undefined,
})); // biome-ignore format: a table
const TENSOR_TYPE = message("tensor type", (): TensorTypeProto => ({ elemType: 0, shape: undefined }));
const SHAPE = message("shape", (): ShapeProto => ({ dim: NONE }));
export const DIMENSION = message("dimension", (): Dimension => ({ dimValue: undefined, dimParam: undefined }));
export const OPSET = message("opset", (): OperatorSetIdProto => ({ domain: "", version: 0n }));
const FUNCTION = message("function", (): FunctionProto => ({
  name: "", domain: "", overload: "", input: NONE, output: NONE, node: NONE, attributeProto: NONE, opsetImport: NONE,
})); // biome-ignore format: a table
/** Nothing inside it is read. */
const OPAQUE = message("message", (): object => ({}));

type Row<T> = readonly [number: number, name: keyof T & string, type: Field["type"], many?: "many"];

function define<T>({ fields }: Message<T>, rows: readonly Row<T>[]): void {
  for (const [number, name, type, many] of rows) fields[number] = { name, type, many: many !== undefined };
}

define(ATTRIBUTE, [
  [1, "name", "string"], [21, "refAttrName", "string"], [20, "type", "int32"], [2, "f", "float"], [3, "i", "int64"], [4, "s", "bytes"],
  [5, "t", TENSOR], [6, "g", GRAPH], [7, "floats", "float", "many"], [8, "ints", "int64", "many"], [9, "strings", "bytes", "many"],
  [11, "graphs", GRAPH, "many"],
]); // biome-ignore format: a table
define(VALUE, [[1, "name", "string"], [2, "type", TYPE]]); // biome-ignore format: a table
define(NODE, [
  [1, "input", "string", "many"], [2, "output", "string", "many"], [3, "name", "string"], [4, "opType", "string"], [7, "domain", "string"],
  [8, "overload", "string"], [5, "attribute", ATTRIBUTE, "many"],
]); // biome-ignore format: a table
define(MODEL, [
  [1, "irVersion", "int64"], [8, "opsetImport", OPSET, "many"], [2, "producerName", "string"], [7, "graph", GRAPH], [25, "functions", FUNCTION, "many"],
]); // biome-ignore format: a table
define(GRAPH, [
  [1, "node", NODE, "many"], [2, "name", "string"], [5, "initializer", TENSOR, "many"], [15, "sparseInitializer", SPARSE_TENSOR, "many"],
  [11, "input", VALUE, "many"], [12, "output", VALUE, "many"],
]); // biome-ignore format: a table
define(TENSOR, [
  [1, "dims", "int64", "many"], [2, "dataType", "int32"], [3, "segment", OPAQUE], [4, "floatData", "float", "many"], [5, "int32Data", "int32", "many"],
  [7, "int64Data", "int64", "many"], [8, "name", "string"], [9, "rawData", "bytes"], [13, "externalData", ENTRY, "many"],
  [14, "dataLocation", "int32"], [10, "doubleData", "double", "many"], [11, "uint64Data", "uint64", "many"],
]); // biome-ignore format: a table
define(SPARSE_TENSOR, [[1, "values", TENSOR], [2, "indices", TENSOR], [3, "dims", "int64", "many"]]); // biome-ignore format: a table
define(ENTRY, [[1, "key", "string"], [2, "value", "string"]]); // biome-ignore format: a table
define(TYPE, [
  [1, "tensorType", TENSOR_TYPE], [4, "sequenceType", OPAQUE], [5, "mapType", OPAQUE], [8, "sparseTensorType", OPAQUE], [9, "optionalType", OPAQUE],
]); // biome-ignore format: a table
define(TENSOR_TYPE, [[1, "elemType", "int32"], [2, "shape", SHAPE]]); // biome-ignore format: a table
define(SHAPE, [[1, "dim", DIMENSION, "many"]]);
define(DIMENSION, [[1, "dimValue", "int64"], [2, "dimParam", "string"]]); // biome-ignore format: a table
define(OPSET, [[1, "domain", "string"], [2, "version", "int64"]]); // biome-ignore format: a table
define(FUNCTION, [
  [1, "name", "string"], [4, "input", "string", "many"], [5, "output", "string", "many"], [11, "attributeProto", ATTRIBUTE, "many"],
  [7, "node", NODE, "many"], [9, "opsetImport", OPSET, "many"], [10, "domain", "string"], [13, "overload", "string"],
]); // biome-ignore format: a table
