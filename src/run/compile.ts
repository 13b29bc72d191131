// A graph to a program: passes, a kernel for every node, memory from lifetimes, one launch list.
import type { CpuDevice, Memory } from "../devices/cpu.ts";
import { inTurns } from "../devices/turns.ts";
import type { Graph } from "../ir/graph.ts";
import { atOnce, type Pieces } from "../ir/pieces.ts";
import { copyKernel } from "../kernels/copy.ts";
import { Binding } from "./binding.ts";
import { tensorBytes } from "./cost.ts";
import { isComplete } from "./image.ts";
import { keepsAttention } from "./implement/attention.ts";
import { isAnchor } from "./implement/index.ts";
import type { SparseMode, SparseRates } from "./implement/sparse_cost.ts";
import { passInTiles } from "./implement/sparse_tiles.ts";
import { assertInputsFit, withinMemory } from "./memory_limit.ts";
import { Program } from "./program.ts";
import { type ScheduleOptions, scheduleInPieces } from "./schedule.ts";
import { implementTried } from "./sparse_doubts.ts";
import { learnSparseRates, ratesOf } from "./sparse_rates.ts";
import { settleDoubts } from "./sparse_trials.ts";
import type { StateSpec } from "./state.ts";
import { type Backend, type SparsePolicy, sharedKernel, type TargetOptions } from "./step.ts";

/** A state in memory of the device that the caller gives. */
export interface CpuStateSpec extends StateSpec {
  readonly memory?: Memory;
}

export interface CompileOptions extends ScheduleOptions {
  readonly device: CpuDevice;
  /** Inputs that keep their values between runs, each with the output that is its next value. */
  readonly state?: readonly CpuStateSpec[];
  /** Gives every tensor memory of its own, against a guard page where the device does that. */
  readonly separateTensors?: boolean;
  /** Bytes that tensors and weights may take. Default: what this machine has. */
  readonly memoryLimit?: number;
  /** What layers with sparse weights are compiled to. Default: auto. */
  readonly sparse?: SparseMode;
  /** What they are chosen by. Default: what is known of the machine. */
  readonly sparseRates?: SparseRates;
}

/**
 * Compiles for one device, in turns of the event loop. The graph must come from the importer: its shapes are concrete.
 * `isDetached`: where the program does not need the graph, lets go of it before code is generated; the weights are in the device's memory then.
 */
export function compile(graph: Graph, options: CompileOptions, isDetached = false): Promise<Program> {
  return bind(graph, options).then((binding) => load({ binding }, options, isDetached));
}

/** Binds again where layers that were left open are faster with other kernels than predicted. */
async function bind(graph: Graph, options: CompileOptions): Promise<Binding> {
  const { device, sparseRates: given } = options;
  const start = performance.now();
  await prepareSparse(graph, options);
  const binding = await inTurns(bindInPieces(graph, options));
  const { sparse } = binding.schedule.backend;
  const isOther = sparse && !given && (await settleDoubts(device, sparse, performance.now() - start));
  return isOther ? inTurns(bindInPieces(graph, options)) : binding;
}

/** Empties `held`: as an argument of its own the binding would live until the function ends. */
async function load(held: { binding?: Binding }, { device, state = [] }: CompileOptions, isDetached: boolean): Promise<Program> {
  const plan = held.binding!.image(); // the caller put it there
  const given = new Map(state.flatMap(({ input, memory }) => (memory ? [[input, memory] as const] : [])));
  const kept: Binding[] = [];
  const program = await Program.load(
    device,
    plan,
    async (memories) => {
      const { binding } = held;
      delete held.binding;
      await inTurns(binding!.fillInPieces(memories)); // the first and only call
      if (!isDetached || !isComplete(plan)) kept.push(binding!);
      return device.compile(binding!.kernels);
    },
    given,
  );
  for (const binding of kept) program.attach(binding);
  return program;
}

/** Has the speed of sparse kernels known where it matters. */
export const prepareSparse = (graph: Graph, { device, sparse = "auto", sparseRates: given }: CompileOptions): Promise<void> =>
  sparse === "auto" && !given ? learnSparseRates(graph, device) : Promise.resolve();

/** All of compilation that comes before code. */
export const bindGraph = (graph: Graph, options: CompileOptions): Binding => atOnce(bindInPieces(graph, options));

function* bindInPieces(graph: Graph, options: CompileOptions): Pieces<Binding> {
  const { device, sparse, sparseRates, separateTensors: isSeparate = false, memoryLimit } = options;
  assertInputsFit(graph, memoryLimit);
  const schedule = yield* scheduleInPieces(
    graph,
    cpuBackend(device, { mode: sparse, rates: ratesOf(graph, device, sparseRates) }),
    options,
  );
  return withinMemory(new Binding(schedule, { threads: device.threads, isSeparate }), memoryLimit);
}

/** Kernels of vectors and threads; tensors as the host has them. */
export function cpuBackend(
  { target, threads }: Pick<CpuDevice, "target" | "threads">,
  { mode = "auto", rates }: Partial<Pick<SparsePolicy, "mode">> & Pick<SparsePolicy, "rates">,
): Backend {
  const sparse: SparsePolicy = { mode, rates, choices: [], doubts: [] };
  const options: TargetOptions = { target, threads, kernels: new Map(), sparse };
  return {
    sparse,
    isAnchor,
    keeps: (node, narrow) => keepsAttention(node, narrow, target),
    implement: (node, name) => implementTried(node, name, options),
    join: passInTiles,
    copy(type) {
      const bytes = tensorBytes(type);
      return sharedKernel(options, `copy ${bytes}`, () => copyKernel(`copy_${bytes}`, bytes, target, threads));
    },
    bytesOf: tensorBytes,
    alignment: 64,
  };
}
