// Small ONNX models for tests, written message by message, so that they can be wrong in chosen ways.
import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import {
  AttributeProtoSchema,
  type FunctionProtoSchema,
  type GraphProtoSchema,
  AttributeProto_AttributeType as Kind,
  ModelProtoSchema,
  type NodeProtoSchema,
  type OperatorSetIdProtoSchema,
  type TensorProtoSchema,
  type ValueInfoProtoSchema,
} from "./protobuf/onnx_pb.ts";

export type NodeInit = MessageInitShape<typeof NodeProtoSchema>;
export type TensorInit = MessageInitShape<typeof TensorProtoSchema>;
export type GraphInit = MessageInitShape<typeof GraphProtoSchema>;
/** What a model may have besides its graph. */
export interface ModelRest {
  readonly functions?: MessageInitShape<typeof FunctionProtoSchema>[];
  readonly opsetImport?: MessageInitShape<typeof OperatorSetIdProtoSchema>[];
}

/** An input or output of float32; sizes are numbers, names, or null. */
export function info(
  name: string,
  shape: readonly (number | string | null)[],
  elemType = 1,
): MessageInitShape<typeof ValueInfoProtoSchema> {
  const dim = shape.map((d) => {
    if (d === null) return {};
    return { value: typeof d === "number" ? { case: "dimValue" as const, value: BigInt(d) } : { case: "dimParam" as const, value: d } };
  });
  return { name, type: { value: { case: "tensorType", value: { elemType, shape: { dim } } } } };
}

export const floats = (name: string, dims: readonly number[], values: readonly number[]): TensorInit => ({
  name,
  dataType: 1,
  dims: dims.map(BigInt),
  rawData: new Uint8Array(Float32Array.from(values).buffer),
});

export const ints = (name: string, values: readonly number[]): TensorInit => ({
  name,
  dataType: 7,
  dims: [BigInt(values.length)],
  int64Data: values.map(BigInt),
});

/** A node with attributes: numbers are ints, `{ f }` is a float. */
export function node(
  opType: string,
  input: readonly string[],
  output: readonly string[],
  attrs: Readonly<Record<string, number | { f: number } | readonly number[] | GraphInit | string>> = {},
): NodeInit {
  const attribute = Object.entries(attrs).map(([name, value]) => {
    if (typeof value === "number") return create(AttributeProtoSchema, { name, type: Kind.INT, i: BigInt(value) });
    if (typeof value === "string") return create(AttributeProtoSchema, { name, type: Kind.INT, refAttrName: value });
    if (Array.isArray(value)) return create(AttributeProtoSchema, { name, type: Kind.INTS, ints: value.map(BigInt) });
    if ("f" in value) return create(AttributeProtoSchema, { name, type: Kind.FLOAT, f: (value as { f: number }).f });
    return create(AttributeProtoSchema, { name, type: Kind.GRAPH, g: value as GraphInit });
  });
  return { opType, input: [...input], output: [...output], attribute };
}

/** Bytes of a model. */
export function model(graph: GraphInit, rest: ModelRest = {}, opset = 17): Uint8Array<ArrayBuffer> {
  const opsetImport = [{ domain: "", version: BigInt(opset) }];
  return toBinary(ModelProtoSchema, create(ModelProtoSchema, { irVersion: 8n, opsetImport, graph, ...rest }));
}
