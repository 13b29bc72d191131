// Which steps need which others first, and an order of the steps in which they have them.
import type { Value } from "../ir/graph.ts";
import { type AnyKernel, readsOf, type Step } from "./step.ts";

/** What the steps, by number, need of each other. */
export interface StepEdges {
  /** The step that computes a value. */
  readonly writer: ReadonlyMap<Value, number>;
  /** The steps that read it. */
  readonly readers: ReadonlyMap<Value, readonly number[]>;
  /** Steps that must run before each. */
  readonly before: readonly ReadonlySet<number>[];
  /** Whether `first` must run before `last`, for whatever reason. */
  isBefore(first: number, last: number): boolean;
  /** Demands it. */
  add(first: number, last: number): void;
  /** One step more; its number. */
  append(step: Step<AnyKernel>): number;
}

/** Values are seen as those that own their memory. */
export function stepEdges(steps: readonly Step<AnyKernel>[], owners: ReadonlyMap<Value, Value>): StepEdges {
  const writer = new Map<Value, number>();
  const readers = new Map<Value, number[]>();
  const before: Set<number>[] = [];
  const after: Set<number>[] = [];
  const owner = (v: Value): Value => owners.get(v) ?? v;
  const edges: StepEdges = {
    writer,
    readers,
    before,
    isBefore(first, last) {
      const seen = new Set([first]);
      const todo = [first];
      for (let at = todo.pop(); at !== undefined; at = todo.pop()) {
        if (at === last) return true;
        for (const next of after[at])
          if (!seen.has(next)) {
            seen.add(next);
            todo.push(next);
          }
      }
      return false;
    },
    add(first, last) {
      before[last].add(first);
      after[first].add(last);
    },
    append(step) {
      const at = before.push(new Set()) - 1;
      after.push(new Set());
      for (const v of step.node.outputs) writer.set(v, at);
      for (const v of new Set(readsOf(step).map(owner))) {
        const known = readers.get(v);
        if (known) known.push(at);
        else readers.set(v, [at]);
        const from = writer.get(v);
        if (from !== undefined) edges.add(from, at);
      }
      return at;
    },
  };
  for (const step of steps) edges.append(step);
  return edges;
}

/** The steps as they stand, each behind those that it needs. */
export function inOrder<K extends AnyKernel>(steps: readonly Step<K>[], { before }: StepEdges): Step<K>[] {
  const done = new Set<number>();
  const order: Step<K>[] = [];
  for (const start of steps.keys()) {
    const path = [start];
    for (let at = path[path.length - 1]; at !== undefined; at = path[path.length - 1]) {
      const open = done.has(at) ? [] : [...before[at]].filter((b) => !done.has(b)).sort((a, b) => a - b);
      if (open.length > 0) {
        path.push(open[0]);
        continue;
      }
      path.pop();
      if (!done.has(at)) order.push(steps[at]);
      done.add(at);
    }
  }
  return order;
}
