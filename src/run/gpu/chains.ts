// Joins steps with small results into the step that reads them: one kernel whose workgroups each compute what is small for themselves, instead of one kernel for each.
import { loadReader } from "../../ir/expr_interpreter.ts";
import type { Graph, Reader, TensorType, Value } from "../../ir/graph.ts";
import { newVar, varIndex } from "../../ir/index_expr.ts";
import type { GpuKernel } from "../../ir/library_kernel.ts";
import type { SimtTarget } from "../../ir/simt.ts";
import { elementCount } from "../../ir/tensor.ts";
import { extentOf, outermost } from "../../lower/simt_expr.ts";
import { lowerSimtReaders } from "../../lower/simt_group.ts";
import { lowerSimtPhases } from "../../lower/simt_phases.ts";
import { constantOf } from "../../ops/source.ts";
import { structureKey } from "../implement/structure_key.ts";
import { type KernelCall, type Place, readsOf, type Step, valuePlace } from "../step.ts";
import type { Shared } from "./product_calls.ts";
import { type TwoPasses, twoPasses } from "./two_passes.ts";

/** What a step computes, over inputs of its own, and what they stand for. */
export interface Computed {
  readonly body: Graph;
  readonly reads: readonly Value[];
}

export interface ChainOptions {
  readonly target: SimtTarget;
  readonly shared: Shared;
  /** Null where a step has several outputs. */
  computed(step: Step<GpuKernel>): Computed | null;
  /** Readers of a body's outputs, its inputs by the numbers given; null where registers cannot compute them. */
  readers(body: Graph, leaf: (input: number, type: TensorType) => Reader): readonly Reader[] | null;
}

/** Elements of a small result. */
const SMALL = 1024;
/** Elements that a workgroup reads for small results, at most: of one, and of all of them. */
const MOST_READ = { one: 1 << 14, all: 1 << 15 };
/** The same, of all workgroups: they read it from a cache that they share. */
const MOST_READ_TOGETHER = 1 << 21;
/** Parts that a result is cut into where reading all of what it is made of would be too much; each has 16 elements at least. */
const PARTS = { long: 64, leastPart: 8, most: 40 };

interface Member {
  readonly number: number;
  readonly computed: Computed;
  /** Elements that computing it reads. */
  readonly cost: number;
  /** Its sums are of parts, which a kernel before computes. */
  readonly isInParts: boolean;
}

/** `owner` of a value: the one whose memory it has. `isKept`: it is needed beyond the steps. */
export function joinSteps(
  steps: readonly Step<GpuKernel>[],
  owner: (v: Value) => Value,
  isKept: (v: Value) => boolean,
  options: ChainOptions,
): Step<GpuKernel>[] {
  const readers = new Map<Value, number[]>();
  const producers = new Map<Value, number>();
  for (const [i, step] of steps.entries()) {
    for (const v of new Set(readsOf(step).map(owner))) readers.set(v, [...(readers.get(v) ?? []), i]);
    for (const v of step.node.outputs) producers.set(v, i);
  }
  const gone = new Set<number>();
  const joined = [...steps];
  for (let i = steps.length - 1; i >= 0; i--) {
    if (gone.has(i)) continue;
    const last = memberOf(i);
    if (!last || last.isInParts || (last.cost > 0 && !isSmall(steps[i].node.outputs[0]))) continue;
    const members = membersBefore(last);
    if (members.length === 0) continue;
    for (const m of members) gone.add(m.number);
    joined[i] = chainStep(steps, [...members, last], options, owner);
  }
  return joined.filter((_, i) => !gone.has(i));

  function memberOf(number: number): Member | null {
    const step = steps[number];
    const [output] = step.node.outputs;
    if (!step.calls || step.node.outputs.length !== 1 || output.type.dtype !== "f32") return null;
    const computed = options.computed(step);
    const made = computed && options.readers(computed.body, (input, type) => loadReader(type, input));
    if (!computed || !made) return null;
    const depth = longest(made[0]);
    const count = elementCount(output.type.shape);
    const cost = depth === 1 ? 0 : count * depth;
    if (cost <= MOST_READ.one) return { number, computed, cost, isInParts: false };
    const isOfMany = computed.reads.some((v) => !constantOf(v) && !isSmall(v));
    const passes = isOfMany && isSmall(output) ? twoPasses(made, computed.reads.length, options.target, PARTS) : null;
    return passes && { number, computed, cost: elementCount(passes.parts.shape), isInParts: true };
  }

  function membersBefore(last: Member): Member[] {
    const members: Member[] = [];
    const inside = new Set([last.number]);
    const wanted = new Set(last.computed.reads.map(owner));
    let cost = 0;
    for (let i = last.number - 1; i >= 0; i--) {
      const [output] = steps[i].node.outputs;
      if (gone.has(i) || !wanted.has(output) || isKept(output) || !isSmall(output)) continue;
      if (!readers.get(output)?.every((r) => inside.has(r))) continue;
      const member = memberOf(i);
      if (!member || cost + member.cost > MOST_READ.all) continue;
      cost += member.cost;
      members.unshift(member);
      inside.add(i);
      for (const v of member.computed.reads) wanted.add(owner(v));
    }
    return members;
  }
}

const isSmall = (v: Value): boolean => elementCount(v.type.shape) <= SMALL;

/** Of the reductions of an element; 1: there are none. */
function longest({ type, at }: Reader): number {
  const all = outermost(at(type.shape.map((d) => varIndex(newVar(d)))));
  return all.reduce((n, r) => Math.max(n, extentOf(r.vars)), 1);
}

function chainStep(
  steps: readonly Step<GpuKernel>[],
  members: readonly Member[],
  { target, shared, readers }: ChainOptions,
  owner: (v: Value) => Value,
): Step<GpuKernel> {
  const last = steps[members[members.length - 1].number];
  const phases = members.slice(0, -1);
  const phaseOf = new Map(phases.map((m, i) => [steps[m.number].node.outputs[0], i]));
  const values = [...new Set(members.flatMap((m) => m.computed.reads).map(owner).filter((v) => !phaseOf.has(v)))]; // biome-ignore format: one idea
  const parts: { readonly place: Place; readonly type: TensorType }[] = [];
  const calls: KernelCall<GpuKernel>[] = [];
  // Inputs are the values, then parts, then the phases before.
  const count = values.length + members.filter((m) => m.isInParts).length;
  const made = members.map((m): Reader => {
    const { body, reads } = m.computed;
    const numbers = reads.map((v) => (phaseOf.has(owner(v)) ? count + phaseOf.get(owner(v))! : values.indexOf(owner(v))));
    const [reader] = readers(body, (input, type) => loadReader(type, numbers[input]))!; // as it was before
    if (!m.isInParts) return reader;
    const number = values.length + parts.length;
    const { parts: type, second } = twoPasses([reader], number, target, PARTS)!; // as it was before
    const call = partsCall(m, parts.length);
    parts.push({ type, place: call.places[call.places.length - 1] });
    calls.push(call);
    return second[0];
  });
  const inputs = [...values.map((v) => v.type), ...parts.map((p) => p.type)];
  const cost = phases.reduce((n, m) => n + m.cost, 0);
  const key = members.map((m) => `${structureKey(m.computed.body)} ${m.computed.reads.map((v) => phaseOf.get(owner(v)) ?? `in${values.indexOf(owner(v))}`)}`); // biome-ignore format: one idea
  const name = `${last.node.op.name}_chain_${members[members.length - 1].number}`;
  const kernel = shared(`chain ${key.join(" | ")}`, name, (n) =>
    lowerSimtPhases(n, made.slice(0, -1), made[made.length - 1], inputs, target, Math.ceil(MOST_READ_TOGETHER / Math.max(1, cost))),
  );
  const places = [...values.map(valuePlace), ...parts.map((p) => p.place), valuePlace(last.node.outputs[0])];
  return { node: last.node, calls: [...calls, { kernel, places }] };

  function partsCall(m: Member, id: number): KernelCall<GpuKernel> {
    const { body, reads } = m.computed;
    const types = body.inputs.map((v) => v.type);
    const passes = twoPasses(readers(body, (input, type) => loadReader(type, input))!, reads.length, target, PARTS) as TwoPasses; // as it was before
    const kernel = shared(`chained parts ${structureKey(body)}`, `parts_${m.number}`, (n) => lowerSimtReaders(n, [passes.first], types, target)); // biome-ignore format: short
    const place: Place = { k: "temporary", id, bytes: kernel.params[kernel.params.length - 1].bytes };
    return { kernel, places: [...reads.map(valuePlace), place] };
  }
}
