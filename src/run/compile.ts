// A graph to a program: passes, a kernel for every node, memory from lifetimes, one launch list.
import type { CpuDevice } from "../devices/cpu.ts";
import { type Graph, type GraphOutput, type Node, topologicalOrder, type Value } from "../ir/graph.ts";
import { OPS } from "../ops/index.ts";
import { Constant, constantOf, Input } from "../ops/source.ts";
import type { Precision } from "../passes/mixed_precision.ts";
import { optimize } from "../passes/pipeline.ts";
import { Binding } from "./binding.ts";
import { byteSize } from "./cost.ts";
import { isComplete } from "./image.ts";
import { implement, isAnchor } from "./implement/index.ts";
import { assertInputsFit, withinMemory } from "./memory_limit.ts";
import { type Interval, planMemory } from "./memory_plan.ts";
import { Program } from "./program.ts";
import { planStates, type State, type StateSpec } from "./state.ts";
import { readsOf, type Step } from "./step.ts";

export interface CompileOptions {
  readonly device: CpuDevice;
  /** Inputs that keep their values between runs, each with the output that is its next value. */
  readonly state?: readonly StateSpec[];
  /** Gives every tensor memory of its own, against a guard page where the device does that. */
  readonly separateTensors?: boolean;
  /** Bytes that tensors and weights may take. Default: what this machine has. */
  readonly memoryLimit?: number;
  /** Type of what contractions read, where the graph has float32. */
  readonly precision?: Precision;
  /** Called after each pass. */
  readonly onPass?: (name: string, graph: Graph, ms: number) => void;
}

/** What is run: steps in order, and where each value lives. */
export interface Schedule {
  readonly graph: Graph;
  /** Inputs that last, and the outputs that are not their next values. */
  readonly states: readonly State[];
  readonly outputs: readonly GraphOutput[];
  readonly steps: readonly Step[];
  /** Values that share another value's memory (Reshape), to the value that owns it. */
  readonly owners: ReadonlyMap<Value, Value>;
  /** Byte offset in the arena of every value that owns memory and is computed or given at run time. */
  readonly offsets: ReadonlyMap<Value, number>;
  /** Bytes of the arena, and what the same tensors would take side by side. */
  readonly arenaBytes: number;
  readonly tensorBytes: number;
}

/**
 * Compiles for one device. The graph must come from the importer: its shapes are concrete.
 * `isDetached`: where the program does not need the graph, lets go of it before code is generated; the weights are in the device's memory then.
 */
export function compile(graph: Graph, options: CompileOptions, isDetached = false): Promise<Program> {
  return load({ binding: bindGraph(graph, options) }, options.device, isDetached);
}

/** Empties `held`: as an argument of its own the binding would live until the function ends. */
async function load(held: { binding?: Binding }, device: CpuDevice, isDetached: boolean): Promise<Program> {
  const plan = held.binding!.image(); // the caller put it there
  const given = new Map(held.binding!.schedule.states.flatMap(({ name, memory }) => (memory ? [[name, memory] as const] : [])));
  const kept: Binding[] = [];
  const program = await Program.load(
    device,
    plan,
    (memories) => {
      const { binding } = held;
      delete held.binding;
      binding!.fill(memories); // the first and only call
      if (!isDetached || !isComplete(plan)) kept.push(binding!);
      return device.compile(binding!.kernels);
    },
    given,
  );
  for (const binding of kept) program.attach(binding);
  return program;
}

/** All of compilation that comes before code. */
export function bindGraph(graph: Graph, options: CompileOptions): Binding {
  const { device, separateTensors: isSeparate = false, memoryLimit } = options;
  assertInputsFit(graph, memoryLimit);
  return withinMemory(new Binding(scheduleGraph(graph, options), { threads: device.threads, isSeparate }), memoryLimit);
}

/** All of compilation that needs no memory of the device. */
export function scheduleGraph(graph: Graph, { device, onPass, precision, state = [] }: CompileOptions): Schedule {
  const optimized = optimize(graph, { layout: true, anchors: isAnchor, precision, onPass });
  const steps: Step[] = [];
  const owners = new Map<Value, Value>();
  const options = { target: device.target, threads: device.threads, kernels: new Map() };
  for (const node of topologicalOrder(optimized)) {
    if (node.op === Input || node.op === Constant) continue;
    if (isReinterpretation(node)) {
      const [source] = node.inputs as readonly [Value]; // checked by infer
      owners.set(node.outputs[0], owners.get(source) ?? source);
      continue;
    }
    steps.push(implement(node, `${node.op.name}_${steps.length}`, options));
  }
  const live = withoutDeadSteps(steps, optimized, owners);
  const plan = planStates(live, optimized, owners, state, options);
  return { graph: optimized, owners, ...plan, ...placeValues(plan, optimized, owners) };
}

const reinterpretations = new Set(["Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity"].map((name) => OPS.get(name)));
/** Whether the output has the input's elements in the input's order. */
const isReinterpretation = (node: Node): boolean => reinterpretations.has(node.op);

/** Drops steps whose results no kernel reads: what a kernel sees through (a Transpose), weights that were packed. */
function withoutDeadSteps(steps: readonly Step[], graph: Graph, owners: ReadonlyMap<Value, Value>): Step[] {
  const owner = (v: Value): Value => owners.get(v) ?? v;
  const needed = new Set(graph.outputs.map((o) => owner(o.value)));
  const live: Step[] = [];
  for (const step of steps.toReversed()) {
    if (!step.node.outputs.some((o) => needed.has(o))) continue;
    for (const v of readsOf(step)) needed.add(owner(v));
    live.push(step);
  }
  return live.reverse();
}

function placeValues(
  { steps, states, outputs }: Pick<Schedule, "steps" | "states" | "outputs">,
  graph: Graph,
  owners: ReadonlyMap<Value, Value>,
): Pick<Schedule, "offsets" | "arenaBytes" | "tensorBytes"> {
  const intervals = new Map<Value, { from: number; to: number }>();
  const elsewhere = new Set(states.flatMap((s) => s.values));
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
  const tensors: Interval[] = values.map((v, id) => ({ id, bytes: Math.max(1, byteSize(v)), ...intervals.get(v)! })); // keys of this map
  const plan = planMemory(tensors);
  return {
    offsets: new Map(values.map((v, id) => [v, plan.offsets.get(id)!])), // every tensor is placed
    arenaBytes: plan.arenaBytes,
    tensorBytes: plan.sumBytes,
  };
}
