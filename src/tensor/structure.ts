// A graph of values that are wanted → the same graph over inputs only, with a text that is equal for graphs that compute the same from other numbers.
import { type Graph, makeNode, type Node, type Op, type Value } from "../ir/graph.ts";
import { constantOf, Input } from "../ops/source.ts";
import { type Storage, storageOf } from "./trace.ts";

export interface Structure {
  readonly graph: Graph;
  /** What the graph's inputs are to be given, in their order; null for inputs that have no numbers (arguments of a traced function). */
  readonly storages: readonly (Storage | null)[];
  /** Equal for graphs that the same program computes. */
  readonly key: string;
}

const numbers = new WeakMap<Op, number>();
let count = 0;
/** Operators may share names: of each customVjp() there is one of its own. */
function numberOf(op: Op): number {
  const known = numbers.get(op) ?? count++;
  numbers.set(op, known);
  return known;
}

/** Values below which nothing is computed: their numbers are known. */
const isGiven = (value: Value): boolean => value.node.op === Input || storageOf(value) !== undefined;

/** Nodes that the values need, inputs before users. Iterative: long chains do not overflow the stack. */
function orderOf(values: readonly Value[]): Node[] {
  const order: Node[] = [];
  const seen = new Set<Node>();
  const stack: { readonly node: Node; next: number }[] = [];
  const enter = (value: Value | null): void => {
    if (!value || isGiven(value) || seen.has(value.node)) return;
    seen.add(value.node);
    stack.push({ node: value.node, next: 0 });
  };
  for (const value of values) {
    enter(value);
    for (let top = stack.at(-1); top; top = stack.at(-1)) {
      if (top.next < top.node.inputs.length) enter(top.node.inputs[top.next++]);
      else order.push(stack.pop()!.node);
    }
  }
  return order;
}

/**
 * The places of the values in a list, those first that are computed by the shortest chain of operators. A program that computes them in this order
 * makes a layer's gradients while the others' are not there yet, and needs less memory.
 */
export function shallowFirst(values: readonly Value[]): number[] {
  const depths = new Map<Node, number>();
  for (const node of orderOf(values)) {
    let depth = 0;
    for (const v of node.inputs) if (v) depth = Math.max(depth, depths.get(v.node) ?? 0);
    depths.set(node, depth + 1);
  }
  const depthAt = values.map((v) => depths.get(v.node) ?? 0);
  return values.map((_, i) => i).sort((a, b) => depthAt[a] - depthAt[b] || a - b);
}

/** Outputs are named y0, y1, …; `first` inputs come first, whether they are used or not. */
export function structureOf(outputs: readonly Value[], first: readonly Value[] = []): Structure {
  const inputs: Value[] = [...first];
  const storages: (Storage | null)[] = first.map(() => null);
  const now = new Map<Value, Value>(first.map((v) => [v, v]));
  const places = new Map<Value, number>(first.map((v, i) => [v, i]));
  const byStorage = new Map<Storage, Value>();
  const parts: string[] = first.map(typeText);
  const place = (value: Value): void => {
    places.set(value, places.size);
  };
  const given = (value: Value): Value => {
    const known = now.get(value);
    if (known) return known;
    const storage = storageOf(value) ?? null;
    const shared = storage && byStorage.get(storage);
    const source = shared ?? leafValue(value, storage);
    now.set(value, source);
    if (shared) return source;
    if (storage) byStorage.set(storage, source);
    inputs.push(source);
    storages.push(storage);
    parts.push(`i${typeText(source)}`);
    place(source);
    return source;
  };
  const renew = (value: Value | null): Value | null => value && (isGiven(value) ? given(value) : now.get(value)!); // inputs come before users
  for (const node of orderOf(outputs)) {
    const from = node.inputs.map(renew);
    const isSame = from.every((v, i) => v === node.inputs[i]);
    const copy = isSame ? node : makeNode(node.op, from, node.attrs, node.outputs.map((o) => o.type), node.from); // biome-ignore format: short
    parts.push(textOf(copy, places));
    for (const [i, output] of copy.outputs.entries()) {
      now.set(node.outputs[i], output);
      place(output);
    }
  }
  const ends = outputs.map((v) => renew(v)!); // outputs are never absent
  return {
    graph: { inputs, outputs: ends.map((value, i) => ({ name: `y${i}`, value })) },
    storages,
    key: `${parts.join(";")}>${ends.map((v) => places.get(v))}`,
  };
}

/** An Input for a value whose numbers are known; the value itself where it is one. */
function leafValue(value: Value, storage: Storage | null): Value {
  if (value.node.op === Input || !storage) return value;
  return makeNode(Input, [], { name: `c${value.index}_${leafCount++}`, type: storage.type }, [storage.type], "").outputs[0];
}
let leafCount = 0;

const typeText = ({ type }: Value): string => `${type.dtype}[${type.shape}]`;

function textOf(node: Node, places: ReadonlyMap<Value, number>): string {
  const constant = constantOf(node.outputs[0]);
  const types = node.outputs.map(typeText).join();
  if (constant) return `${types}=${Array.from<number | bigint, string>(constant.data, (v) => (Object.is(v, -0) ? "-0" : `${v}`))}`;
  return `${numberOf(node.op)}(${node.inputs.map((v) => (v ? places.get(v) : "-"))})${attrsText(node.attrs)}:${types}`;
}

const attrsText = (attrs: object): string => JSON.stringify(attrs, exactly);

/** JSON has no text for all numbers. */
const exactly = (_: string, v: unknown): unknown => {
  if (typeof v === "bigint") return `${v}n`;
  if (typeof v === "number" && (!Number.isFinite(v) || Object.is(v, -0))) return Object.is(v, -0) ? "-0" : `${v}`;
  return v;
};
