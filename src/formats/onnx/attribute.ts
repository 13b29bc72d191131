// ONNX attributes ↔ the attribute values of nodes.
import { HeddleError } from "../../ir/error.ts";
import type { AttrSpec, Attrs, AttrValue, Op } from "../../ir/graph.ts";
import type { TensorData } from "../../ir/tensor.ts";
import { ATTRIBUTE, type AttributeProto, create, AttributeType as Kind } from "./messages.ts";
import { plain } from "./structure.ts";
import { decodeTensor, encodeTensor } from "./tensor.ts";

/** All attributes of a node by name. Sub-graphs stay as they are in the file: ImportContext.inline imports them. */
export function decodeAttributes(protos: readonly AttributeProto[], origin: string, directory?: string): Attrs {
  const out: Record<string, AttrValue> = {};
  for (const proto of protos) {
    const name = plain(proto.name);
    if (Object.hasOwn(out, name)) throw new HeddleError("bad-model", `${origin}: attribute ${name} is given twice`);
    if (name === "__proto__") throw new HeddleError("bad-model", `${origin}: attribute ${name} is not known`);
    out[name] = decodeAttribute(proto, `${origin}: attribute ${name}`, directory);
  }
  return out;
}

const text = new TextDecoder();

function decodeAttribute(proto: AttributeProto, what: string, directory: string | undefined): AttrValue {
  const kind = kindOf(proto);
  switch (kind) {
    case Kind.FLOAT:
      return proto.f;
    case Kind.INT:
      return Number(proto.i);
    case Kind.STRING:
      return text.decode(proto.s);
    case Kind.FLOATS:
      return proto.floats;
    case Kind.INTS:
      return proto.ints.map(Number);
    case Kind.STRINGS:
      return proto.strings.map((s) => text.decode(s));
    case Kind.TENSOR:
      if (!proto.t) throw new HeddleError("bad-model", `${what} holds no tensor`);
      return decodeTensor(proto.t, what, directory);
    case Kind.GRAPH:
      if (!proto.g) throw new HeddleError("bad-model", `${what} holds no graph`);
      return proto.g;
    default:
      throw new HeddleError("unsupported", `${what} has the type ${kindName(kind)}, which is not supported`);
  }
}

const kindName = (kind: number): string => Object.entries(Kind).find(([, number]) => number === kind)?.[0] ?? `${kind}`;

/** Files of the first version have no type; what is there tells it. */
function kindOf(proto: AttributeProto): number {
  if (proto.type !== Kind.UNDEFINED) return proto.type;
  if (proto.t) return Kind.TENSOR;
  if (proto.g) return Kind.GRAPH;
  if (proto.floats.length > 0) return Kind.FLOATS;
  if (proto.ints.length > 0) return Kind.INTS;
  if (proto.strings.length > 0) return Kind.STRINGS;
  if (proto.s.length > 0) return Kind.STRING;
  return proto.f !== 0 ? Kind.FLOAT : Kind.INT;
}

/** Attributes of old operator sets that mean what heddle does anyway: the value that may be ignored; null: any. */
const NEUTRAL: Readonly<Record<string, AttrValue>> = { consumed_inputs: null, spatial: 1 };

/** Attributes of an operator as its table wants them. Throws on unknown ones and wrong types. */
export function checkedAttributes(op: Op, attrs: Attrs): Attrs {
  const out: Record<string, AttrValue> = {};
  for (const [name, value] of Object.entries(attrs)) {
    const spec = Object.hasOwn(op.attrs, name) ? op.attrs[name] : undefined;
    if (value === undefined || value === null) continue;
    if (spec) {
      if (!hasType(value, spec.type))
        throw new HeddleError("bad-model", `${op.name}: attribute ${name} is ${describe(value)}, wanted ${spec.type}`);
      out[name] = value;
    } else if (!(name in NEUTRAL) || (NEUTRAL[name] !== null && NEUTRAL[name] !== value)) {
      throw new HeddleError("unsupported", `${op.name}: attribute ${name} = ${describe(value)} is not supported`);
    }
  }
  return out;
}

function hasType(value: AttrValue, type: AttrSpec["type"]): boolean {
  switch (type) {
    case "int":
      return Number.isInteger(value) || typeof value === "boolean";
    case "float":
      return typeof value === "number";
    case "string":
      return typeof value === "string";
    case "ints":
      return Array.isArray(value) && value.every((v) => Number.isInteger(v));
    case "floats":
      return Array.isArray(value) && value.every((v) => typeof v === "number");
    case "strings":
      return Array.isArray(value) && value.every((v) => typeof v === "string");
    case "tensor":
    case "graph":
      return typeof value === "object" && !Array.isArray(value);
    default:
      return type satisfies never;
  }
}

function describe(value: AttrValue): string {
  if (value !== null && typeof value === "object" && !Array.isArray(value)) return "data" in value ? "a tensor" : "a graph";
  const shown = JSON.stringify(value) ?? "nothing";
  return plain(shown.length > 60 ? `${shown.slice(0, 60)}…` : shown);
}

const utf8 = new TextEncoder();

/** An attribute as ONNX stores it. */
export function encodeAttribute(name: string, { type }: AttrSpec, value: AttrValue): AttributeProto {
  const base = { name };
  switch (type) {
    case "int":
      return create(ATTRIBUTE, { ...base, type: Kind.INT, i: wholeNumber(Number(value)) });
    case "float":
      return create(ATTRIBUTE, { ...base, type: Kind.FLOAT, f: value as number });
    case "string":
      return create(ATTRIBUTE, { ...base, type: Kind.STRING, s: utf8.encode(value as string) });
    case "ints":
      return create(ATTRIBUTE, { ...base, type: Kind.INTS, ints: (value as readonly number[]).map(wholeNumber) });
    case "floats":
      return create(ATTRIBUTE, { ...base, type: Kind.FLOATS, floats: [...(value as readonly number[])] });
    case "strings":
      return create(ATTRIBUTE, {
        ...base,
        type: Kind.STRINGS,
        strings: (value as readonly string[]).map((s) => utf8.encode(s)),
      });
    case "tensor":
      return create(ATTRIBUTE, { ...base, type: Kind.TENSOR, t: encodeTensor(value as TensorData) });
    case "graph":
      throw new HeddleError("unsupported", `attribute ${name}: sub-graphs cannot be written`);
    default:
      return type satisfies never;
  }
}

/** "To the end" is written as the largest 64-bit integer, which as a float64 lies just outside. */
function wholeNumber(n: number): bigint {
  return BigInt.asIntN(64, n >= 2 ** 63 ? 2n ** 63n - 1n : BigInt(n));
}
