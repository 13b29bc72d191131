// Ways to damage a model: a seed and a kind of damage turn the bytes of a good file into those of a bad one.
import { AttributeType, MODEL, type ModelProto } from "../../src/formats/onnx/messages.ts";
import { decode } from "../../src/formats/onnx/wire_reader.ts";
import { encode } from "../../src/formats/onnx/wire_writer.ts";
import { OPS } from "../../src/ops/index.ts";

/** A whole number in [0, n). */
export type Below = (n: number) => number;

/** The same numbers for the same seed: the high bits of a linear congruential generator. */
export function generator(seed: number): Below {
  let state = Math.imul(seed + 1, 2654435761) >>> 0;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

const pick = <T>(items: readonly T[], below: Below): T => items[below(items.length)];

/** The messages as they are decoded, to be changed. */
type Mutable<T> = T extends Uint8Array | bigint | string | number | undefined
  ? T
  : T extends readonly (infer E)[]
    ? Mutable<E>[]
    : { -readonly [K in keyof T]: Mutable<T[K]> };
type Model = Mutable<ModelProto>;
type Graph = NonNullable<Model["graph"]>;
type Node = Graph["node"][number];
type Attribute = Node["attribute"][number];

const INTS: readonly bigint[] = [
  0n, -1n, 1n, 2n, 3n, -2n, 5n, 7n, 16n, 100n, 1000n, 65536n, 1n << 20n, (1n << 31n) - 1n, 1n << 31n, -(1n << 31n), 1n << 32n, 1n << 40n, 1n << 53n, (1n << 63n) - 1n, -(1n << 63n),
]; // biome-ignore format: a table
const FLOATS: readonly number[] = [0, -1, 1, 0.5, 1e-30, 1e30, -1e30, Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 3e9, 1e-45]; // biome-ignore format: a table
const STRINGS: readonly string[] = [
  "", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID", "constant", "edge", "wrap", "reflect", "linear", "cubic", "nearest", "tf_crop_and_resize",
  "reverse", "bidirectional", "zeros", "border", "...ij,jk", "ij->", "\u0000", "x".repeat(5000), "Tanh", "sum", "add", "max",
]; // biome-ignore format: a table
const PATHS: readonly string[] = ["weights.bin", "../../../etc/passwd", "/dev/zero", "", ".", "mutations.ts", "\u0000"];

const anInt = (old: bigint, below: Below): bigint => (below(3) === 0 ? old + BigInt(below(5) - 2) : pick(INTS, below));

/** The graph, or one of those in attributes. */
function aGraph(model: Model, below: Below): Graph {
  const graphs = [model.graph!]; // base models have one
  for (let i = 0; i < graphs.length; i++) for (const n of graphs[i].node) for (const a of n.attribute) if (a.g) graphs.push(a.g);
  return below(4) === 0 ? pick(graphs, below) : graphs[0];
}
const aNode = (model: Model, below: Below): Node | undefined => pick(aGraph(model, below).node, below);
function aTensor(model: Model, below: Below): Graph["initializer"][number] | undefined {
  return pick(aGraph(model, below).initializer, below);
}
function anAttribute(model: Model, below: Below): Attribute | undefined {
  const nodes = aGraph(model, below).node.filter((n) => n.attribute.length > 0);
  const node = pick(nodes, below);
  return node && pick(node.attribute, below);
}
const namesOf = (graph: Graph): string[] =>
  [...graph.node.flatMap((n) => n.output), ...graph.initializer, ...graph.input].map((v) => (typeof v === "string" ? v : v.name));

function changeAttribute(a: Attribute, below: Below): void {
  a.i = anInt(a.i, below);
  a.f = pick(FLOATS, below);
  if (a.type === AttributeType.STRING) a.s = new TextEncoder().encode(pick(STRINGS, below));
  if (a.ints.length > 0) a.ints = a.ints.with(below(a.ints.length), anInt(a.ints[0], below));
  if (a.floats.length > 0) a.floats = a.floats.with(below(a.floats.length), pick(FLOATS, below));
}

/** Each changes the model in place. */
const structural: Readonly<Record<string, (model: Model, below: Below) => void>> = {
  "an attribute's value"(model, below) {
    const a = anAttribute(model, below);
    if (a) changeAttribute(a, below);
  },
  "all elements of an attribute"(model, below) {
    const a = anAttribute(model, below);
    const n = pick(INTS, below);
    if (a) a.ints = a.ints.map(() => n);
  },
  "an attribute's length"(model, below) {
    const a = anAttribute(model, below);
    if (a) a.ints = below(2) ? a.ints.slice(1) : [...a.ints, ...new Array<bigint>(1 + below(70)).fill(a.ints[0] ?? 1n)];
  },
  "an attribute's type"(model, below) {
    const a = anAttribute(model, below);
    if (a) a.type = below(15);
  },
  "an attribute's name"(model, below) {
    const a = anAttribute(model, below);
    const other = anAttribute(model, below);
    if (a && other) a.name = below(3) ? other.name : pick(["__proto__", "constructor", "toString", "axis"], below);
  },
  "a missing attribute"(model, below) {
    const n = aNode(model, below);
    if (n) n.attribute = n.attribute.slice(1);
  },
  "an attribute of another node"(model, below) {
    const n = aNode(model, below);
    const a = anAttribute(model, below);
    if (n && a) n.attribute = [...n.attribute, structuredClone(a)]; // a graph may hold the node
  },
  "a size of a tensor"(model, below) {
    const t = aTensor(model, below);
    if (t?.dims.length) t.dims = t.dims.with(below(t.dims.length), anInt(t.dims[0], below));
  },
  "axes of a tensor"(model, below) {
    const t = aTensor(model, below);
    if (t) t.dims = below(2) ? t.dims.slice(1) : [...t.dims, ...new Array<bigint>(1 + below(8)).fill(1n)];
  },
  "another shape of a tensor's values"(model, below) {
    const t = aTensor(model, below);
    if (t) t.dims = below(2) ? t.dims.toReversed() : [t.dims.reduce((a, b) => a * b, 1n)];
  },
  "a tensor's data type"(model, below) {
    const t = aTensor(model, below);
    if (t) t.dataType = below(28);
  },
  "a tensor's length"(model, below) {
    const t = aTensor(model, below);
    if (t) t.rawData = below(2) ? t.rawData.slice(0, below(t.rawData.length + 1)) : new Uint8Array(t.rawData.length + 1 + below(9));
  },
  "a tensor's values"(model, below) {
    const t = aTensor(model, below);
    if (t) t.rawData = t.rawData.map(() => below(256));
  },
  "a list's numbers"(model, below) {
    const lists = aGraph(model, below).initializer.filter((t) => t.dataType === 7 && t.rawData.length >= 8);
    const t = pick(lists, below);
    if (!t) return;
    const values = new BigInt64Array(t.rawData.slice().buffer);
    const at = below(values.length);
    values[at] = anInt(values[at], below);
    t.rawData = new Uint8Array(values.buffer);
  },
  "all of a list's numbers"(model, below) {
    const t = pick(
      aGraph(model, below).initializer.filter((i) => i.dataType === 7 && i.rawData.length >= 8),
      below,
    );
    if (t) t.rawData = new Uint8Array(new BigInt64Array(t.rawData.length / 8).fill(pick(INTS, below)).buffer);
  },
  "data outside of the file"(model, below) {
    const t = aTensor(model, below);
    if (!t) return;
    t.dataLocation = 1;
    t.externalData = [{ key: "location", value: pick(PATHS, below) }, { key: pick(["offset", "length"], below), value: `${pick(INTS, below)}` }]; // biome-ignore format: one idea
  },
  "a size of an input"(model, below) {
    const dims = pick(model.graph!.input, below)?.type?.tensorType?.shape?.dim;
    const dim = dims && pick(dims, below);
    if (dim) dim.dimValue = anInt(dim.dimValue ?? 1n, below);
  },
  "axes of an input"(model, below) {
    const shape = pick(model.graph!.input, below)?.type?.tensorType?.shape;
    if (shape) shape.dim = below(2) ? shape.dim.slice(1) : [...shape.dim, { dimValue: 1n, dimParam: undefined }];
  },
  "an input's shape left open"(model, below) {
    const type = pick(model.graph!.input, below)?.type?.tensorType;
    if (type?.shape && below(2)) for (const dim of type.shape.dim) dim.dimValue = undefined;
    else if (type) type.shape = undefined;
  },
  "an input's data type"(model, below) {
    const type = pick(model.graph!.input, below)?.type?.tensorType;
    if (type) type.elemType = below(28);
  },
  "a cycle"(model, below) {
    const graph = aGraph(model, below);
    const n = pick(graph.node, below);
    const later = pick(graph.node.slice(graph.node.indexOf(n)), below);
    if (n && later) n.input = n.input.with(0, later.output[0]);
  },
  "another input"(model, below) {
    const graph = aGraph(model, below);
    const n = pick(graph.node, below);
    if (n?.input.length) n.input = n.input.with(below(n.input.length), pick(namesOf(graph), below));
  },
  "a missing input"(model, below) {
    const n = aNode(model, below);
    if (n?.input.length) n.input = below(2) ? n.input.slice(0, -1) : n.input.with(below(n.input.length), "");
  },
  "more inputs"(model, below) {
    const graph = aGraph(model, below);
    const n = pick(graph.node, below);
    if (n) n.input = [...n.input, ...Array.from({ length: 1 + below(40) }, () => pick(namesOf(graph), below))];
  },
  "exchanged inputs"(model, below) {
    const n = aNode(model, below);
    if (n) n.input = n.input.toReversed();
  },
  "a name used twice"(model, below) {
    const graph = aGraph(model, below);
    const n = pick(graph.node, below);
    if (n?.output.length) n.output = n.output.with(below(n.output.length), pick(namesOf(graph), below));
  },
  "another operator"(model, below) {
    const n = aNode(model, below);
    if (n) n.opType = pick([...OPS.keys()], below);
  },
  "another operator with its inputs only"(model, below) {
    const n = aNode(model, below);
    if (!n) return;
    n.opType = pick([...OPS.keys()], below);
    n.attribute = [];
  },
  "another version of the operators"(model, below) {
    const opset = pick(model.opsetImport, below);
    if (opset) opset.version = below(3) ? BigInt(below(25)) : pick(INTS, below);
  },
  "a node twice"(model, below) {
    const graph = aGraph(model, below);
    const n = pick(graph.node, below);
    if (n) graph.node = [...graph.node, { ...n, input: n.output, output: n.output.map((o) => `${o}2`) }];
  },
  "another output"(model, below) {
    const graph = aGraph(model, below);
    const output = pick(graph.output, below);
    if (output) output.name = pick(namesOf(graph), below);
  },
};

const splice = (b: Uint8Array, at: number, remove: number, add: readonly number[]): Uint8Array =>
  Uint8Array.from([...b.subarray(0, at), ...add, ...b.subarray(at + remove)]);
function flipped(b: Uint8Array, below: Below, from: number): Uint8Array {
  const at = below(from);
  return b.with(at, b[at] ^ (1 << below(8)));
}

/** Each gives new bytes. */
const bytewise: Readonly<Record<string, (bytes: Uint8Array, below: Below) => Uint8Array>> = {
  "a cut": (b, below) => b.slice(0, below(b.length)),
  "a flipped bit": (b, below) => flipped(b, below, b.length),
  "a flipped bit at the start": (b, below) => flipped(b, below, Math.min(b.length, 200)),
  "four flipped bits": (b, below) => [0, 1, 2, 3].reduce((bytes) => flipped(bytes, below, b.length), b),
  "a large number": (b, below) => splice(b, below(b.length), 1, [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]),
  "a missing part": (b, below) => splice(b, below(b.length), below(64), []),
  "a repeated part": (b, below) => {
    const at = below(b.length);
    return splice(b, at, 0, [...b.subarray(at, at + below(64))]);
  },
};

const several = "several of all";
export const KINDS: readonly string[] = [...Object.keys(structural), ...Object.keys(bytewise), several];

/** The damaged file. */
export function mutate(bytes: Uint8Array, kind: string, seed: number): Uint8Array {
  const below = generator(seed);
  if (kind in bytewise) return bytewise[kind](bytes, below);
  const proto = structuredClone(decode(MODEL, bytes)) as Model; // a copy of its own, whose lists may be changed
  const kinds = kind === several ? Array.from({ length: 2 + below(5) }, () => pick(Object.keys(structural), below)) : [kind];
  for (const k of kinds) structural[k](proto, below);
  return encode(MODEL, proto as ModelProto);
}
