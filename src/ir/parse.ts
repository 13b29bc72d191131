// Text that print.ts wrote → Graph. The table of operators is given, because ir knows none but Group.
import { DTYPES, type DType } from "./dtype.ts";
import { HeddleError } from "./error.ts";
import { type AttrValue, type Graph, type GraphOutput, makeNode, type Node, type Op, type TensorType, type Value } from "./graph.ts";
import { Group } from "./group.ts";
import { Scanner } from "./scan_text.ts";
import { elementCount, fromNumbers, type TensorData } from "./tensor.ts";

const VALUE = /%\d+/y;
const NAME = /[A-Za-z_]\w*/y;
const STRING = /"(?:[^"\\\n]|\\.)*"/y;
const NUMBER = /-?(?:inf|nan|\d+(?:\.\d+)?(?:e[+-]?\d+)?)/y;
const INTEGER = /-?\d+/y;
const TYPE = new RegExp(`(?:${Object.keys(DTYPES).join("|")})(?=\\[)`, "y");
const BASE64 = /"[A-Za-z0-9+/]*=*"/y;

interface Parser {
  readonly scanner: Scanner;
  readonly ops: ReadonlyMap<string, Op>;
  readonly values: Map<string, Value>;
}

/** The graph. Throws HeddleError ("bad-argument" with the line; "unsupported": an operator not in `ops`). Constants whose data was left out cannot be read. */
export function parseGraph(text: string, ops: ReadonlyMap<string, Op>): Graph {
  const parser: Parser = { scanner: new Scanner(text), ops, values: new Map() };
  const graph = parseBody(parser);
  if (!parser.scanner.isEnd()) throw parser.scanner.error("wanted the end");
  return graph;
}

function parseBody(parser: Parser): Graph {
  const { scanner } = parser;
  const inputs: Value[] = [];
  while (scanner.isNext("%")) {
    const node = parseNode(parser);
    if (node.op.kind === "source" && !node.op.evaluate) inputs.push(node.outputs[0]);
  }
  scanner.expect("return");
  const outputs: GraphOutput[] = [];
  while (scanner.isNext('"')) {
    const name = parseString(scanner);
    scanner.expect("=");
    outputs.push({ name, value: parseValue(parser) });
    if (!scanner.take(",")) break;
  }
  return { inputs, outputs };
}

/** `%3, %4 = Split %2, _ {axis=1} : f32[3], f32[3] // from` */
function parseNode(parser: Parser): Node {
  const { scanner, ops, values } = parser;
  const names: string[] = [];
  do names.push(scanner.expectMatch(VALUE, "a value such as %3"));
  while (scanner.take(","));
  scanner.expect("=");
  const opName = scanner.expectMatch(NAME, "an operator");
  const op = ops.get(opName) ?? (opName === Group.name ? Group : undefined);
  if (!op) throw new HeddleError("unsupported", `graph text: there is no operator ${opName}`);
  const inputs: (Value | null)[] = [];
  if (scanner.isNext("%") || scanner.isNext("_")) {
    do inputs.push(scanner.take("_") ? null : parseValue(parser));
    while (scanner.take(","));
  }
  const attrs: Record<string, AttrValue> = Object.fromEntries(Object.keys(op.attrs).map((name) => [name, undefined]));
  if (scanner.take("{")) parseFields(parser, attrs, NAME);
  scanner.expect(":");
  const types: TensorType[] = [];
  do types.push(parseType(scanner));
  while (scanner.take(","));
  const comment = scanner.comment("//");
  if (types.length !== names.length) throw scanner.error(`${names.length} values and ${types.length} types`);
  const node = makeNode(op, inputs, attrs, types, comment.startsWith('"') ? (JSON.parse(comment) as string) : comment);
  for (const [i, name] of names.entries()) {
    if (values.has(name)) throw scanner.error(`${name} is defined twice`);
    values.set(name, node.outputs[i]);
  }
  return node;
}

function parseValue({ scanner, values }: Parser): Value {
  const name = scanner.expectMatch(VALUE, "a value such as %3");
  const value = values.get(name);
  if (!value) throw scanner.error(`${name} is not defined above`);
  return value;
}

/** `a=1, b=[2, 3]}` after the opening brace. */
function parseFields(parser: Parser, into: Record<string, AttrValue>, key: RegExp): void {
  const { scanner } = parser;
  if (scanner.take("}")) return;
  do {
    const name = scanner.expectMatch(key, "an attribute name");
    scanner.expect("=");
    into[key === STRING ? (JSON.parse(name) as string) : name] = parseAttr(parser);
  } while (scanner.take(","));
  scanner.expect("}");
}

function parseAttr(parser: Parser): AttrValue {
  const { scanner } = parser;
  if (scanner.isNext('"')) return parseString(scanner);
  if (scanner.take("[")) {
    const items: AttrValue[] = [];
    while (!scanner.take("]")) {
      if (items.length > 0) scanner.expect(",");
      items.push(parseAttr(parser));
    }
    return items as AttrValue;
  }
  if (scanner.take("{")) {
    if (scanner.isNext("%") || scanner.isNext("return")) {
      const body = parseBody(parser);
      scanner.expect("}");
      return body;
    }
    const fields: Record<string, AttrValue> = {};
    parseFields(parser, fields, STRING);
    return fields;
  }
  if (scanner.take("&")) return parseValue(parser).node;
  if (scanner.take("true")) return true;
  if (scanner.take("false")) return false;
  if (scanner.take("null")) return null;
  const dtype = scanner.match(TYPE) as DType | undefined; // the expression is made of the dtypes
  return dtype ? parseTensor(scanner, { dtype, shape: parseSizes(scanner) }) : parseNumber(scanner);
}

function parseString(scanner: Scanner): string {
  return JSON.parse(scanner.expectMatch(STRING, "a string")) as string;
}

function parseNumber(scanner: Scanner): number {
  const text = scanner.expectMatch(NUMBER, "a value");
  if (text.endsWith("nan")) return Number.NaN;
  return text.endsWith("inf") ? (text.startsWith("-") ? Number.NEGATIVE_INFINITY : Number.POSITIVE_INFINITY) : Number(text);
}

function parseType(scanner: Scanner): TensorType {
  const dtype = scanner.expectMatch(TYPE, "a type such as f32[3,5]") as DType; // the expression is made of the dtypes
  return { dtype, shape: parseSizes(scanner) };
}

function parseSizes(scanner: Scanner): number[] {
  const sizes: number[] = [];
  scanner.expect("[");
  while (!scanner.take("]")) {
    if (sizes.length > 0) scanner.expect(",");
    sizes.push(Number(scanner.expectMatch(INTEGER, "a size")));
  }
  return sizes;
}

/** A type, or with data behind it a tensor. */
function parseTensor(scanner: Scanner, type: TensorType): TensorType | TensorData {
  if (scanner.isNext("#")) throw scanner.error("the data of this constant was left out when printing (print with data: true)");
  if (scanner.take("base64")) return { ...type, data: parseBytes(scanner, type) };
  if (!scanner.take("(")) return type;
  const isWide = type.dtype === "i64" || type.dtype === "u64";
  const values: (number | bigint)[] = [];
  while (!scanner.take(")")) {
    if (values.length > 0) scanner.expect(",");
    values.push(isWide ? BigInt(scanner.expectMatch(INTEGER, "an integer")) : parseNumber(scanner));
  }
  if (values.length !== elementCount(type.shape)) throw scanner.error(`${values.length} values for ${type.dtype}[${type.shape}]`);
  if (!isWide) return fromNumbers(type.dtype, type.shape, values as number[]);
  return { ...type, data: type.dtype === "i64" ? BigInt64Array.from(values as bigint[]) : BigUint64Array.from(values as bigint[]) };
}

function parseBytes(scanner: Scanner, { dtype, shape }: TensorType): TensorData["data"] {
  const text = atob(scanner.expectMatch(BASE64, "base64").slice(1, -1));
  const { array, bytes } = DTYPES[dtype];
  if (text.length !== elementCount(shape) * bytes) throw scanner.error(`${text.length} bytes for ${dtype}[${shape}]`);
  const buffer = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) buffer[i] = text.charCodeAt(i);
  return new array(buffer.buffer);
}
