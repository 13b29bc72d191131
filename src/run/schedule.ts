// A graph to a schedule: passes, steps for every node in the order in which they run, and where each value lives.
import { type Graph, type GraphOutput, type Node, topologicalOrder, type Value } from "../ir/graph.ts";
import type { Kernel } from "../ir/kernel.ts";
import { atOnce, type Pieces } from "../ir/pieces.ts";
import { narrowPrecision, type Precision } from "../ir/precision.ts";
import { OPS } from "../ops/index.ts";
import { Constant, constantOf, Input } from "../ops/source.ts";
import { optimizeInPieces } from "../passes/pipeline.ts";
import { type Interval, planMemory } from "./memory_plan.ts";
import { planStates, type State, type StateSpec } from "./state.ts";
import { type AnyKernel, type Backend, boundPlaces, readsOf, type Step } from "./step.ts";

export interface ScheduleOptions {
  /** Inputs that keep their values between runs, each with the output that is its next value. */
  readonly state?: readonly StateSpec[];
  /** What contractions multiply, where the graph has float32. */
  readonly precision?: Precision;
  /** With 16 bits: what contractions read is stored in those only, for inference. */
  readonly storesNarrow?: boolean;
  /** Called after each pass. */
  readonly onPass?: (name: string, graph: Graph, ms: number) => void;
}

/** What is run: steps in order, and where each value lives. */
export interface Schedule<K extends AnyKernel = Kernel> {
  readonly graph: Graph;
  /** Inputs that last, and the outputs that are not their next values. */
  readonly states: readonly State[];
  readonly outputs: readonly GraphOutput[];
  readonly steps: readonly Step<K>[];
  readonly backend: Backend<K>;
  /** Values that share another value's memory (Reshape), to the value that owns it. */
  readonly owners: ReadonlyMap<Value, Value>;
  /** Byte offset in the arena of every value that owns memory and is computed or given at run time. */
  readonly offsets: ReadonlyMap<Value, number>;
  /** Bytes of each of them: a tensor's, or more where kernels lay it out in their own way. */
  readonly sizes: ReadonlyMap<Value, number>;
  /** Bytes of the arena, and what the same tensors would take side by side. */
  readonly arenaBytes: number;
  readonly tensorBytes: number;
}

/** All of compilation that needs no memory of the device. */
export const scheduleGraph = <K extends AnyKernel>(graph: Graph, backend: Backend<K>, options?: ScheduleOptions): Schedule<K> =>
  atOnce(scheduleInPieces(graph, backend, options));

/** scheduleGraph, pass by pass and node by node. */
export function* scheduleInPieces<K extends AnyKernel>(
  graph: Graph,
  backend: Backend<K>,
  { onPass, precision, storesNarrow, state = [] }: ScheduleOptions = {},
): Pieces<Schedule<K>> {
  const optimized = yield* optimizeInPieces(graph, {
    layout: true,
    anchors: backend.isAnchor,
    keeps: (node) => backend.keeps?.(node, narrowPrecision(precision)) ?? false,
    rereads: backend.rereads,
    layoutCosts: backend.layoutCosts,
    precision: narrowPrecision(precision),
    multipliesFloat8: precision === "f8",
    storesNarrow,
    onPass,
  });
  const steps: Step<K>[] = [];
  const owners = new Map<Value, Value>();
  for (const node of topologicalOrder(optimized)) {
    if (node.op === Input || node.op === Constant) continue;
    if (isReinterpretation(node)) {
      const [source] = node.inputs as readonly [Value]; // checked by infer
      owners.set(node.outputs[0], owners.get(source) ?? source);
      continue;
    }
    steps.push(backend.implement(node, `${node.op.name}_${steps.length}`));
    yield;
  }
  const owner = (v: Value): Value => owners.get(v) ?? v;
  const kept = new Set(optimized.outputs.map((o) => owner(o.value)));
  const living = withoutDeadSteps(steps, optimized, owners);
  const live = backend.join?.(living, owner, (v) => kept.has(v)) ?? living;
  const planned = planStates(live, optimized, owners, state, backend);
  const plan = { ...planned, steps: backend.together?.(planned.steps, owner, planned.states, planned.outputs.map((o) => o.value)) ?? planned.steps }; // biome-ignore format: short
  return { graph: optimized, owners, backend, ...plan, ...placeValues(plan, optimized, owners, backend) };
}

const reinterpretations = new Set(["Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity"].map((name) => OPS.get(name)));
/** Whether the output has the input's elements in the input's order. */
const isReinterpretation = (node: Node): boolean => reinterpretations.has(node.op);

/** Drops steps whose results no kernel reads: what a kernel sees through (a Transpose), weights that were packed. */
function withoutDeadSteps<K extends AnyKernel>(steps: readonly Step<K>[], graph: Graph, owners: ReadonlyMap<Value, Value>): Step<K>[] {
  const owner = (v: Value): Value => owners.get(v) ?? v;
  const needed = new Set(graph.outputs.map((o) => owner(o.value)));
  const live: Step<K>[] = [];
  for (const step of steps.toReversed()) {
    if (!step.node.outputs.some((o) => needed.has(o))) continue;
    for (const v of readsOf(step)) needed.add(owner(v));
    live.push(step);
  }
  return live.reverse();
}

function placeValues(
  { steps, states, outputs }: Pick<Schedule<AnyKernel>, "steps" | "states" | "outputs">,
  graph: Graph,
  owners: ReadonlyMap<Value, Value>,
  backend: Backend<AnyKernel>,
): Pick<Schedule, "offsets" | "sizes" | "arenaBytes" | "tensorBytes"> {
  const intervals = new Map<Value, { from: number; to: number }>();
  const elsewhere = new Set(states.flatMap((s) => s.values));
  const sizes = new Map<Value, number>();
  const use = (value: Value, at: number): void => {
    const v = owners.get(value) ?? value;
    if (constantOf(v) || elsewhere.has(v)) return;
    const known = intervals.get(v);
    if (known) known.to = Math.max(known.to, at);
    else intervals.set(v, { from: at, to: at });
  };
  for (const v of graph.inputs) use(v, -1);
  for (const [i, step] of steps.entries()) {
    for (const v of readsOf(step)) use(v, i);
    for (const v of step.node.outputs) use(v, i);
  }
  for (const { value } of outputs) use(value, steps.length);
  const values = [...intervals.keys()];
  for (const v of values) sizes.set(v, Math.max(1, backend.bytesOf(v.type)));
  for (const { calls } of steps)
    for (const { place, bytes } of (calls ?? []).flatMap((call) => [...boundPlaces(call)])) {
      const v = place.k === "value" ? (owners.get(place.value) ?? place.value) : null;
      if (v && sizes.has(v)) sizes.set(v, Math.max(sizes.get(v)!, bytes)); // has() says so
    }
  const tensors: Interval[] = values.map((v, id) => ({ id, bytes: sizes.get(v)!, ...intervals.get(v)! })); // keys of these maps
  const plan = planMemory(tensors, backend.alignment);
  return {
    offsets: new Map(values.map((v, id) => [v, plan.offsets.get(id)!])), // every tensor is placed
    sizes,
    arenaBytes: plan.arenaBytes,
    tensorBytes: plan.sumBytes,
  };
}
