// Launches of one kernel on different tensors become one launch, where all of them can run at the same time: steps of many parameters, copies of many weights, like branches of a network.
import type { Node, Value } from "../../ir/graph.ts";
import { type GpuKernel, isLibraryKernel } from "../../ir/library_kernel.ts";
import type { SimtKernel, SimtTarget } from "../../ir/simt.ts";
import { largestLiveBytes } from "../memory_plan.ts";
import { type KernelCall, type Lasting, readsOf, type Step, valuePlace } from "../step.ts";
import { withUsedBuffers } from "./used_buffers.ts";

export interface TogetherOptions {
  readonly target: SimtTarget;
  /** Of a value: the one whose memory it has. */
  readonly owner: (v: Value) => Value;
  readonly states: readonly Lasting[];
  readonly bytesOf: (v: Value) => number;
  /** Needed beyond the steps. */
  readonly kept: readonly Value[];
}

type GpuStep = Step<GpuKernel>;

/** Buffers of a launch, 8 bytes each: what all drivers pass are 4,096. */
const MOST_BUFFERS = 500;
/** Threads of a multiprocessor. A launch that fills all of them so many times gains nothing by others beside it. */
const RESIDENT_THREADS = 2048;
const MOST_WAVES = 4;
/** By how much the most that is alive at one time may grow: a share of it, or so many bytes. */
const MOST_GROWTH = { share: 1 / 64, bytes: 1 << 20 };

/** The same steps, those that became one in the place of one of them. They are in an order in which states are written after they were read last. */
export function launchTogether(given: readonly GpuStep[], options: TogetherOptions): GpuStep[] {
  const { target, states, owner } = options;
  const homes = new Map(states.flatMap(({ input, values }) => values.map((v) => [v, input] as const)));
  const memoryOf = (v: Value): Value => homes.get(owner(v)) ?? owner(v);
  let steps = inSingleCalls(given);
  const made = new Map<string, SimtKernel>();
  for (const [kernel, all] of byKernel(steps, target)) {
    let left = all;
    while (left.length > 1) {
      const found = batchOf(steps, left, memoryOf, Math.floor(MOST_BUFFERS / kernel.params.length));
      left = left.filter((s) => !found.members.includes(s));
      steps = withBatch(steps, found, kernel);
    }
  }
  return steps;

  /** All of the batch in one launch, or in as many as memory needs. */
  function withBatch(before: GpuStep[], { members, at }: Batch, kernel: SimtKernel): GpuStep[] {
    if (members.length < 2) return before;
    const key = `${kernel.name}_sets_${members.length}`;
    const joint = made.get(key) ?? jointKernel(kernel, members.length);
    made.set(key, joint);
    const after = before.flatMap((s, i) => [...(i === at ? [jointStep(members, joint)] : []), ...(members.includes(s) ? [] : [s])]);
    if (at === before.length) after.push(jointStep(members, joint));
    const peak = peakOf(before, options, homes);
    if (peakOf(after, options, homes) - peak <= Math.max(MOST_GROWTH.share * peak, MOST_GROWTH.bytes)) return after;
    const half = members.length >> 1;
    let steps = before;
    for (const part of [members.slice(0, half), members.slice(half)])
      if (part.length > 1) {
        const found = batchOf(steps, part, memoryOf, part.length);
        steps = withBatch(steps, found, kernel);
      }
    return steps;
  }
}

/** A call that prepares another is a step of its own where there are others of its kind. */
function inSingleCalls(steps: readonly GpuStep[]): GpuStep[] {
  const counts = new Map<GpuKernel, number>();
  for (const { calls } of steps) for (const { kernel } of calls ?? []) counts.set(kernel, (counts.get(kernel) ?? 0) + 1);
  const used = new Map<GpuKernel, ReturnType<typeof withUsedBuffers>>();
  return steps.flatMap((step) => {
    const [first, second, ...more] = step.calls ?? [];
    if (!second || more.length > 0 || [first, second].every(({ kernel }) => counts.get(kernel) === 1)) return [step];
    const written = first.places.filter((_, i) => first.kernel.params[i].access !== "read");
    if (!written.every((p) => p.k === "temporary")) return [step];
    if (isLibraryKernel(second.kernel)) return split(step, first, second);
    const { kernel, used: numbers } = used.get(second.kernel) ?? withUsedBuffers(second.kernel);
    used.set(second.kernel, { kernel, used: numbers });
    return split(step, first, { ...second, kernel, places: numbers.map((i) => second.places[i]) });
  });
}

/** Temporaries become values. */
function split(step: GpuStep, first: KernelCall<GpuKernel>, second: KernelCall<GpuKernel>): GpuStep[] {
  const outputs: Value[] = [];
  const node: Node = { ...step.node, outputs };
  const values = new Map<number, Value>();
  const valued = (call: KernelCall<GpuKernel>): KernelCall<GpuKernel> => ({
    ...call,
    places: call.places.map((place, i) => {
      if (place.k !== "temporary") return place;
      const { dtype, elements } = call.kernel.params[i];
      const value = values.get(place.id) ?? { node, index: outputs.length, type: { dtype, shape: [elements] } };
      if (!values.has(place.id)) outputs.push(value);
      values.set(place.id, value);
      return valuePlace(value);
    }),
  });
  return [
    { node, calls: [valued(first)] },
    { ...step, calls: [valued(second)] },
  ];
}

/** Steps of one launch that does not fill the GPU for long, by their kernels. */
function byKernel(steps: readonly GpuStep[], { units = 1 }: SimtTarget): Map<SimtKernel, GpuStep[]> {
  const groups = new Map<SimtKernel, GpuStep[]>();
  for (const step of steps) {
    const [call, ...more] = step.calls ?? [];
    if (!call || more.length > 0 || isLibraryKernel(call.kernel)) continue;
    const { kernel } = call;
    const threads = [...kernel.grid, ...kernel.workgroup].reduce((n, d) => n * d, 1);
    const isFree = call.places.every((p) => p.k !== "temporary") && !call.storesPartialSums && kernel.grid[2] === 1;
    if (isFree && threads <= MOST_WAVES * units * RESIDENT_THREADS) groups.set(kernel, [...(groups.get(kernel) ?? []), step]);
  }
  return groups;
}

interface Batch {
  readonly members: readonly GpuStep[];
  /** They run before the step of this number. */
  readonly at: number;
}

/** Those that can run before the first step that needs one of them. */
function batchOf(steps: readonly GpuStep[], candidates: readonly GpuStep[], memoryOf: (v: Value) => Value, most: number): Batch {
  const accesses = accessesOf(steps, memoryOf);
  const numbers = new Map(steps.map((s, i) => [s, i]));
  const ranges = candidates.map((step) => ({ step, ...rangeOf(step, numbers.get(step)!, steps.length, accesses, memoryOf) })); // one of the steps
  ranges.sort((a, b) => a.to - b.to);
  const at = ranges[0].to;
  const members: GpuStep[] = [];
  const written = new Set<Value>();
  const touched = new Set<Value>();
  for (const { step, from } of ranges) {
    const writes = step.node.outputs.map(memoryOf);
    const all = [...readsOf(step).map(memoryOf), ...writes];
    if (from > at || members.length === most || writes.some((v) => touched.has(v)) || all.some((v) => written.has(v))) continue;
    members.push(step);
    for (const v of writes) written.add(v);
    for (const v of all) touched.add(v);
  }
  return { members, at };
}

interface Access {
  readonly at: number;
  readonly isWrite: boolean;
}

/** Of each memory, in the order of steps. */
function accessesOf(steps: readonly GpuStep[], memoryOf: (v: Value) => Value): ReadonlyMap<Value, readonly Access[]> {
  const all = new Map<Value, Access[]>();
  const add = (v: Value, access: Access): void => {
    const known = all.get(memoryOf(v));
    if (known) known.push(access);
    else all.set(memoryOf(v), [access]);
  };
  for (const [at, step] of steps.entries()) {
    for (const v of readsOf(step)) add(v, { at, isWrite: false });
    for (const v of step.node.outputs) add(v, { at, isWrite: true });
  }
  return all;
}

/** Before which steps, by number, it can run. */
function rangeOf(
  step: GpuStep,
  own: number,
  count: number,
  accesses: ReturnType<typeof accessesOf>,
  memoryOf: (v: Value) => Value,
): { readonly from: number; readonly to: number } {
  let [from, to] = [0, count];
  const meets = (v: Value, isWrite: boolean): void => {
    for (const a of accesses.get(memoryOf(v)) ?? []) {
      if (a.at === own || (!isWrite && !a.isWrite)) continue;
      if (a.at < own) from = Math.max(from, a.at + 1);
      else to = Math.min(to, a.at);
    }
  };
  for (const v of readsOf(step)) meets(v, false);
  for (const v of step.node.outputs) meets(v, true);
  return { from, to };
}

/** A set of buffers for each of `count` launches. */
const jointKernel = (kernel: SimtKernel, count: number): SimtKernel => ({
  ...kernel,
  name: `${kernel.name}_sets_${count}`,
  params: Array.from({ length: count }, () => kernel.params).flat(),
  grid: [kernel.grid[0], kernel.grid[1], count],
  sets: count,
});

/** Says of itself what the first says, with the inputs and outputs of all. */
function jointStep(members: readonly GpuStep[], kernel: SimtKernel): GpuStep {
  const [{ node }] = members;
  const inputs = [...new Set(members.flatMap((s) => s.node.inputs))];
  const outputs = members.flatMap((s) => s.node.outputs);
  return { node: { ...node, inputs, outputs }, calls: [{ kernel, places: members.flatMap((s) => s.calls![0].places) }] }; // they have one
}

/** The most bytes of values that are alive at one time, besides states. */
function peakOf(steps: readonly GpuStep[], { owner, bytesOf, kept }: TogetherOptions, homes: ReadonlyMap<Value, Value>): number {
  const lives = new Map<Value, { from: number; to: number; bytes: number }>();
  const use = (value: Value, at: number): void => {
    const v = owner(value);
    if (homes.has(v) || v.node.op.kind === "source") return;
    const known = lives.get(v);
    if (known) known.to = at;
    else lives.set(v, { from: at, to: at, bytes: bytesOf(v) });
  };
  for (const [i, step] of steps.entries()) for (const v of [...readsOf(step), ...step.node.outputs]) use(v, i);
  for (const v of kept) use(v, steps.length);
  return largestLiveBytes(lives.values());
}
