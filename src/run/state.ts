// Inputs whose memory lasts from run to run, and outputs that become their next values: written where they are when nothing needs the old value any more, else copied.
import { HeddleError } from "../ir/error.ts";
import { apply, type Graph, type GraphOutput, type Value } from "../ir/graph.ts";
import { OPS } from "../ops/index.ts";
import { inputName } from "../ops/source.ts";
import { inputsReadInPlace } from "./in_place.ts";
import { inOrder, type StepEdges, stepEdges } from "./order.ts";
import { type AnyKernel, type Backend, type Step, valuePlace } from "./step.ts";

/** An input that keeps its value between runs; a run ends with the output's value in it. */
export interface StateSpec {
  readonly input: string;
  readonly output: string;
  /** Memory of the device for it, which several programs may share. Default: the program's own. */
  readonly memory?: { readonly bytes: number };
}

export interface State {
  readonly name: string;
  readonly input: Value;
  /** What lives in its memory at one time or another. */
  readonly values: readonly Value[];
  readonly memory: { readonly bytes: number } | undefined;
}

/** Steps in an order in which every state is written after it was read last, and the outputs that are no states. */
export interface StatePlan<K extends AnyKernel> {
  readonly steps: readonly Step<K>[];
  readonly states: readonly State[];
  readonly outputs: readonly GraphOutput[];
}

export function planStates<K extends AnyKernel>(
  steps: readonly Step<K>[],
  graph: Graph,
  owners: ReadonlyMap<Value, Value>,
  specs: readonly StateSpec[],
  backend: Backend<K>,
): StatePlan<K> {
  if (specs.length === 0) return { steps, states: [], outputs: graph.outputs };
  return new StatePlanner(steps, graph, owners, checked(specs, graph, backend), backend).plan();
}

/** A state with the values of its names. */
interface Pair {
  readonly spec: StateSpec;
  readonly input: Value;
  readonly output: Value;
}

function checked(specs: readonly StateSpec[], graph: Graph, backend: Backend<AnyKernel>): Pair[] {
  const inputs = new Map(graph.inputs.map((v) => [inputName(v), v]));
  const outputs = new Map(graph.outputs.map(({ name, value }) => [name, value]));
  const pairs = specs.map((spec): Pair => {
    const [input, output] = [inputs.get(spec.input), outputs.get(spec.output)];
    if (!input) throw new HeddleError("bad-input", `state: the graph has no input ${spec.input}`);
    if (!output) throw new HeddleError("bad-input", `state ${spec.input}: the graph has no output ${spec.output}`);
    const [from, to] = [output.type, input.type].map(({ dtype, shape }) => `${dtype}[${shape}]`);
    if (from !== to) throw new HeddleError("bad-input", `state ${spec.input}: output ${spec.output} is ${from}, wanted ${to}`);
    const bytes = backend.bytesOf(input.type);
    if (spec.memory && spec.memory.bytes < bytes)
      throw new HeddleError("bad-input", `state ${spec.input}: its memory has ${spec.memory.bytes} bytes, wanted ${bytes}`);
    return { spec, input, output };
  });
  for (const face of ["input", "output"] as const)
    if (new Set(specs.map((s) => s[face])).size < specs.length)
      throw new HeddleError("bad-input", `state: one ${face} is named for two states`);
  return pairs;
}

class StatePlanner<K extends AnyKernel> {
  private readonly steps: Step<K>[];
  private readonly edges: StepEdges;
  private readonly inputs: ReadonlySet<Value>;
  private readonly outputs: readonly GraphOutput[];
  /** Of each state what it becomes. */
  private readonly results: readonly Value[];

  constructor(
    steps: readonly Step<K>[],
    graph: Graph,
    private readonly owners: ReadonlyMap<Value, Value>,
    private readonly pairs: readonly Pair[],
    private readonly backend: Backend<K>,
  ) {
    this.steps = [...steps];
    this.inputs = new Set(pairs.map((p) => p.input));
    // Old values that outlive the run, or move to another state, are saved first: these steps read the state like others do.
    const next = new Set(pairs.map((p) => p.spec.output));
    this.outputs = graph.outputs
      .filter(({ name }) => !next.has(name))
      .map(({ name, value }) => ({ name, value: this.inputs.has(this.owner(value)) ? this.copy(value) : value }));
    this.results = pairs.map(({ input, output }) => {
      const owner = this.owner(output);
      return owner !== input && this.inputs.has(owner) ? this.copy(output) : output;
    });
    this.edges = stepEdges(this.steps, owners);
  }

  plan(): StatePlan<K> {
    const taken = new Set<Value>();
    const states = this.pairs.map(({ spec, input }, i): State => {
      const result = this.owner(this.results[i]);
      const state = { name: spec.input, input, memory: spec.memory };
      if (result === input) return { ...state, values: [input] };
      const isInPlace = !taken.has(result) && this.writeInPlace(input, result);
      if (isInPlace) taken.add(result);
      return { ...state, values: [input, isInPlace ? result : this.copyLast(input, this.results[i])] };
    });
    return { steps: inOrder(this.steps, this.edges), states, outputs: this.outputs };
  }

  private owner(value: Value): Value {
    return this.owners.get(value) ?? value;
  }

  /** A step that copies a value, and its result. */
  private copy(value: Value): Value {
    const [result] = apply(OPS.get("Identity")!, [value], {}, "state"); // ONNX's
    const kernel = this.backend.copy(value.type);
    this.steps.push({ node: result.node, calls: [{ kernel, places: [value, result].map(valuePlace) }] });
    return result;
  }

  /** Whether the step that computes `result` may write it over the state: all that read the state can come before, and it reads no element after it wrote it. */
  private writeInPlace(state: Value, result: Value): boolean {
    const { edges, steps } = this;
    const writer = edges.writer.get(result);
    if (writer === undefined) return false; // a constant, or an input
    const readers = edges.readers.get(state) ?? [];
    if (readers.includes(writer) && !this.readsInPlace(steps[writer], state)) return false;
    const others = readers.filter((r) => r !== writer);
    if (others.some((r) => edges.isBefore(writer, r))) return false;
    for (const r of others) edges.add(r, writer);
    return true;
  }

  /** Whether all that the step reads of the state, under whatever name, is read in place. */
  private readsInPlace(step: Step<K>, state: Value): boolean {
    const aligned = inputsReadInPlace(step);
    return step.node.inputs.every((v) => !v || this.owner(v) !== state || aligned.has(v));
  }

  /** Copies the result when all that read the state are done; returns what is then in the state's memory. */
  private copyLast(state: Value, value: Value): Value {
    const copied = this.copy(value);
    const at = this.edges.append(this.steps[this.steps.length - 1]);
    for (const r of this.edges.readers.get(state) ?? []) if (r !== at) this.edges.add(r, at);
    return copied;
  }
}
