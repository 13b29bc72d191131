// Graph → text, one line a node, always the same for the same graph; parse.ts reads it back.
import type { DType } from "./dtype.ts";
import { float8ToNumber, isFloat8 } from "./float8.ts";
import { type AttrValue, type Graph, type Node, type TensorType, topologicalOrder, type Value } from "./graph.ts";
import { bf16ToNumber, halfToNumber } from "./small_floats.ts";
import type { TensorData } from "./tensor.ts";

export interface PrintOptions {
  /** Write constants of more than 16 elements in full (base64), so that the text can be parsed; otherwise a hash stands for them. */
  readonly data?: boolean;
}

/** Constants up to this size are written as numbers. */
const INLINE_ELEMENTS = 16;

interface Printer {
  readonly options: PrintOptions;
  readonly names: Map<Value, string>;
  /** Values are numbered through nested graphs, so that every name is unique in the text. */
  next: number;
}

/** Lines such as `%3 = Sqrt %2 : f32[3,5] // origin`, then `return "y" = %3`. */
export function printGraph(graph: Graph, options: PrintOptions = {}): string {
  return `${graphLines(graph, { options, names: new Map(), next: 0 }).join("\n")}\n`;
}

/** One node on one line (more where it holds a graph); its inputs are named by operator. For messages. */
export function printNode(node: Node, options: PrintOptions = {}): string {
  const names = new Map(node.inputs.flatMap((v): [Value, string][] => (v ? [[v, `%${v.node.op.name}`]] : [])));
  return nodeText(node, { options, names, next: 0 });
}

export const printType = ({ dtype, shape }: TensorType): string => `${dtype}[${shape}]`;

function graphLines(graph: Graph, printer: Printer): string[] {
  const lines = topologicalOrder(graph).map((node) => nodeText(node, printer));
  const outputs = graph.outputs.map(({ name, value }) => `${JSON.stringify(name)} = ${printer.names.get(value)}`);
  return [...lines, `return ${outputs.join(", ")}`.trimEnd()];
}

function nodeText(node: Node, printer: Printer): string {
  const inputs = node.inputs.map((v) => (v ? (printer.names.get(v) ?? "%?") : "_"));
  const attrs = printAttrs(node, printer); // before the outputs are numbered: nested graphs count first
  for (const o of node.outputs) printer.names.set(o, `%${printer.next++}`);
  const outputs = node.outputs.map((o) => printer.names.get(o)).join(", ");
  const operands = inputs.length > 0 ? ` ${inputs.join(", ")}` : "";
  const from = node.from ? ` // ${/[\p{Cc}\u2028\u2029]|^"|^\s|\s$/u.test(node.from) ? JSON.stringify(node.from) : node.from}` : "";
  return `${outputs} = ${node.op.name}${operands}${attrs} : ${node.outputs.map((o) => printType(o.type)).join(", ")}${from}`;
}

function printAttrs(node: Node, printer: Printer): string {
  const order = new Set([...Object.keys(node.op.attrs), ...Object.keys(node.attrs)]); // the table's order: a body before its anchor
  const given = [...order].map((name) => [name, node.attrs[name]] as const).filter(([, value]) => value !== undefined && value !== null);
  if (given.length === 0) return "";
  return ` {${given.map(([name, value]) => `${name}=${printValue(value, printer)}`).join(", ")}}`;
}

function printValue(value: AttrValue, printer: Printer): string {
  if (value === null || value === undefined) return "null";
  if (typeof value === "number") return printNumber(value);
  if (typeof value === "string") return JSON.stringify(value);
  if (typeof value === "boolean") return String(value);
  if (Array.isArray(value)) return `[${value.map((v) => printValue(v as AttrValue, printer)).join(", ")}]`; // elements are attribute values
  if ("dtype" in value && "shape" in value)
    return "data" in value ? printTensor(value as TensorData, printer.options) : printType(value as TensorType);
  if ("op" in value && "outputs" in value) return `&${printer.names.get((value as Node).outputs[0])}`; // a node of a graph before it: an anchor
  if ("inputs" in value && "outputs" in value) {
    const lines = graphLines(value as Graph, printer);
    return `{\n${lines.map((line) => line.replace(/^/gm, "  ")).join("\n")}\n}`;
  }
  const fields = Object.entries(value).filter(([, v]) => v !== undefined);
  return `{${fields.map(([name, v]) => `${JSON.stringify(name)}=${printValue(v as AttrValue, printer)}`).join(", ")}}`;
}

function printNumber(x: number): string {
  if (Number.isNaN(x)) return "nan";
  if (!Number.isFinite(x)) return x > 0 ? "inf" : "-inf";
  return Object.is(x, -0) ? "-0" : String(x);
}

/** Fewest digits that give the same float32. */
function printFloat32(x: number): string {
  if (!Number.isFinite(x) || x === 0) return printNumber(x);
  for (let digits = 1; digits < 9; digits++) {
    const short = Number(x.toPrecision(digits));
    if (Math.fround(short) === x) return printNumber(short);
  }
  return printNumber(x);
}

function elementPrinter(dtype: DType): (x: number | bigint) => string {
  if (dtype === "f16") return (x) => printNumber(halfToNumber(Number(x)));
  if (dtype === "bf16") return (x) => printFloat32(bf16ToNumber(Number(x)));
  if (dtype === "f32") return (x) => printFloat32(Number(x));
  if (isFloat8(dtype)) return (x) => printNumber(float8ToNumber(dtype, Number(x)));
  return (x) => (typeof x === "bigint" ? String(x) : printNumber(x));
}

/** `f32[3](1, 2.5, nan)`, `f32[64]base64"…"`, or `f32[64]#1a2b3c4d` where the data is left out. */
export function printTensor(tensor: TensorData, options: PrintOptions = {}): string {
  const { dtype, data } = tensor;
  const type = printType(tensor);
  if (data.length <= INLINE_ELEMENTS) return `${type}(${Array.from(data as ArrayLike<number | bigint>, elementPrinter(dtype)).join(", ")})`;
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  if (!options.data) return `${type}#${fnv1a(bytes).toString(16).padStart(8, "0")}`;
  return `${type}base64"${toBase64(bytes)}"`;
}

/** Fowler–Noll–Vo hash, 32 bits: tells constants apart in a listing. */
function fnv1a(bytes: Uint8Array): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < bytes.length; i++) hash = Math.imul(hash ^ bytes[i], 0x01000193);
  return hash >>> 0;
}

/** btoa takes a string; chunks of a multiple of three bytes join without padding between them. */
function toBase64(bytes: Uint8Array): string {
  const parts: string[] = [];
  for (let at = 0; at < bytes.length; at += 24573) parts.push(btoa(String.fromCharCode(...bytes.subarray(at, at + 24573))));
  return parts.join("");
}
