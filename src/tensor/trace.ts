// What tensors are made of before they are numbers: values of a graph, those whose numbers are known, and the function that is being traced.
import { HeddleError } from "../ir/error.ts";
import { type Attrs, apply, type Node, type Op, type TensorType, type Value } from "../ir/graph.ts";
import type { TensorData } from "../ir/tensor.ts";
import { input } from "../ops/source.ts";
import { callSite, isTracked } from "./call_site.ts";
import type { Cell, TracedCell } from "./state.ts";

/** Numbers of a tensor: here, or on their way. */
export interface Storage {
  readonly type: TensorType;
  data: TensorData | null;
  /** Null when `data` is there. Its rejection is handled: whoever awaits it sees the error. */
  pending: Promise<TensorData> | null;
}

/** What a Tensor holds on to. `value` changes when the numbers are known, so that what they were computed from can be forgotten. */
export interface Handle {
  value: Value;
  /** The function being traced when it was made; null outside of compiled functions. */
  readonly trace: Trace | null;
  isDisposed: boolean;
}

/** A function that is being traced. */
export interface Trace {
  isOpen: boolean;
  /** Small tensors from outside, which the program holds as constants. */
  readonly constants: Map<Storage, Value>;
  /** The parameters that were read or assigned. */
  readonly states: Map<Cell, TracedCell>;
}

/** Numbers of values that are known or on their way: where computing stops. */
const storages = new WeakMap<Value, Storage>();
export const storageOf = (value: Value): Storage | undefined => storages.get(value);

let current: Trace | null = null;
export const currentTrace = (): Trace | null => current;

/** Runs `f` while what it does is traced. */
export function tracing<T>(f: (trace: Trace) => T): { result: T; trace: Trace } {
  const outer = current;
  const trace: Trace = { isOpen: true, constants: new Map(), states: new Map() };
  current = trace;
  try {
    return { result: f(trace), trace };
  } finally {
    current = outer;
    trace.isOpen = false;
  }
}

let leaves = 0;

/** A tensor with these numbers. */
export function leaf(storage: Storage): Handle {
  const value = input(`t${leaves++}`, storage.type);
  storages.set(value, storage);
  return { value, trace: null, isDisposed: false };
}

/** Says that a handle's numbers are those of `storage`, for those too who have used its value. */
export function settle(handle: Handle, storage: Storage): void {
  storages.set(handle.value, storage);
  handle.value = input(`t${leaves++}`, storage.type);
  storages.set(handle.value, storage);
}

/** Names a further input of the graph that is being made. */
export const freshInput = (type: TensorType): Value => input(`t${leaves++}`, type);

export const handleOf = (value: Value): Handle => ({ value, trace: current, isDisposed: false });

/** The user's line, as errors end. */
const at = (): string => {
  const site = callSite();
  return site && `; from ${site}`;
};

/** Lists of nodes being made: what checkpoint() computes again. */
const recorders: Set<Node>[] = [];

/** The nodes that are made while `f` runs. */
export function recording<T>(f: () => T): { result: T; nodes: ReadonlySet<Node> } {
  const nodes = new Set<Node>();
  recorders.push(nodes);
  try {
    return { result: f(), nodes };
  } finally {
    recorders.splice(recorders.indexOf(nodes), 1);
  }
}

/** Applies an operator. Errors name the user's line. */
export function applyOp(op: Op, inputs: readonly (Value | null)[], attrs: Attrs = {}): readonly Value[] {
  const values = naming(() => apply(op, inputs, attrs, isTracked ? callSite() : ""));
  for (const nodes of recorders) nodes.add(values[0].node);
  return values;
}

/** Runs `f`; errors of operators name the user's line. */
export function naming<T>(f: () => T): T {
  try {
    return f();
  } catch (e) {
    if (!(e instanceof HeddleError)) throw e;
    const message = e.message.replace(/; from (?::grad)?$/, "");
    throw new HeddleError(e.code === "bad-model" ? "bad-argument" : e.code, /; from \S*:\d+$/.test(message) ? message : message + at(), {
      cause: e,
    });
  }
}

/** Refuses what an operator's user wrote, naming the line. */
export function refuse(message: string): never {
  throw new HeddleError("bad-argument", message + at());
}
