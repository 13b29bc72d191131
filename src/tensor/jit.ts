// jit: a function of tensors, traced once for each signature and compiled to one program, with the parameters it uses as state of that program.
import type { Device } from "../devices/open.ts";
import type { Graph, Value } from "../ir/graph.ts";
import type { Precision } from "../ir/precision.ts";
import type { TensorData } from "../ir/tensor.ts";
import { inputName } from "../ops/source.ts";
import type { StepTime } from "../run/program.ts";
import { device, enqueue, onDeviceChange } from "./device.ts";
import { awaited, compute, fetched, use } from "./execute.ts";
import { Runner, type StatePair } from "./runner.ts";
import { type Cell, overwritten, place, placeOf, snapshot } from "./state.ts";
import { shallowFirst, structureOf } from "./structure.ts";
import { Tensor, toValue } from "./tensor.ts";
import { currentTrace, freshInput, handleOf, leaf, refuse, type Storage, storageOf, tracing } from "./trace.ts";
import { type Flat, flatten } from "./tree.ts";

/** A compiled function. */
export type Jitted<A extends readonly unknown[], R> = ((...args: A) => R) & {
  /** Bytes that all its programs plan for themselves, without parameters: tensors, partial results of kernels, constants. */
  arenaBytes(): Promise<number>;
  /** Runs it on a GPU, three times (parameters change as often), and says how long each node of its program took there; elsewhere runs it and says nothing. */
  profile(...args: A): Promise<readonly StepTime[]>;
  /** How many programs there are: one for each signature. */
  readonly programs: number;
  /** Frees the programs. The function may be called again, and compiles anew. */
  dispose(): void;
  [Symbol.dispose](): void;
};

export interface JitOptions {
  /** Matrix products and convolutions read their operands, weights included, rounded to this type (tf32: where a GPU is faster so); all else, sums of products too, stays float32. */
  readonly precision?: Precision;
}

/** A traced function, which becomes a program when it first runs. */
interface Traced {
  readonly graph: Graph;
  readonly precision: Precision | undefined;
  readonly device: Promise<Device | null>;
  runner: Promise<Runner> | null;
  /** Names of the inputs for the arguments, and of those for tensors from outside. */
  readonly args: readonly string[];
  readonly captured: readonly { readonly name: string; readonly storage: Storage }[];
  readonly states: readonly (StatePair & { readonly cell: Cell; readonly isWritten: boolean })[];
  readonly outputs: readonly { readonly name: string; readonly value: Value }[];
  readonly result: Flat;
}

/** By signature. */
type Programs = Map<string, Traced>;

/** So many signatures are hardly meant. */
const MANY = 64;
const MANY_TEXT = `jit: one function was compiled for ${MANY} signatures; shapes and all numbers among the arguments belong to them: pass numbers that change as tensors`;

const living = new Set<WeakRef<Programs>>();
/** Functions that were collected leave their programs behind. */
const abandoned = new FinalizationRegistry<Programs>((programs) => freeAll(programs));

/**
 * Compiles a function of tensors (and of lists and objects of them) the first time it is called with tensors of these shapes and types; numbers, texts and
 * booleans among the arguments belong to the signature. Parameters that it reads or assigns stay in the program's memory between calls. Other effects
 * (printing, counting in JavaScript) happen while tracing only. Inside of another compiled function it becomes part of that one,
 * in that one's precision.
 */
export function jit<A extends readonly unknown[], R>(f: (...args: A) => R, { precision }: JitOptions = {}): Jitted<A, R> {
  const programs: Programs = new Map();
  living.add(new WeakRef(programs));
  const programFor = (given: Flat): Traced => {
    const key = `${given.text} ${given.tensors.map((t) => `${t.dtype}[${t.shape}]`).join()}`;
    const traced = programs.get(key) ?? trace(f, given, precision);
    programs.set(key, traced);
    if (programs.size === MANY && !traced.runner) process.emitWarning(MANY_TEXT, "HeddleWarning");
    return traced;
  };
  const call = (...args: A): R => {
    if (currentTrace()) return f(...args);
    const given = flatten(args, "jit");
    const traced = programFor(given);
    const results = queued(traced, given.tensors, async (runner, inputs) => {
      const tensors = await runner.run(inputs);
      return traced.outputs.map(({ name }) => tensors[name]);
    });
    results.catch(() => {}); // whoever asks for the results sees it
    return traced.result.rebuild(traced.outputs.map(({ value }, i) => new Tensor(leaf(awaited(value.type, results, i))))) as R; // the tree that f gave
  };
  const profile = (...args: A): Promise<readonly StepTime[]> => {
    const given = flatten(args, "jit");
    return queued(programFor(given), given.tensors, (runner, inputs) => runner.profile(inputs));
  };
  const dispose = (): void => freeAll(programs);
  abandoned.register(call, programs);
  const arenaBytes = async (): Promise<number> => {
    const all = [...programs.values()]; // those of now
    const runners = await enqueue(() => Promise.all(all.map((t) => t.runner)));
    return runners.reduce((n, r) => n + (r?.arenaBytes ?? 0), 0);
  };
  Object.assign(call, { arenaBytes, profile, dispose, [Symbol.dispose]: dispose });
  Object.defineProperty(call, "programs", { get: () => programs.size });
  return call as Jitted<A, R>; // with all that was put on it
}

/** Frees the programs after what is queued. */
function freeAll(programs: Programs): void {
  const all = [...programs.values()];
  programs.clear();
  for (const traced of all) enqueue(async () => (await traced.runner?.catch(() => null))?.free()).catch(() => {});
}

onDeviceChange(() => {
  for (const ref of living) {
    const programs = ref.deref();
    if (programs) freeAll(programs);
    else living.delete(ref);
  }
});

function trace<A extends readonly unknown[]>(f: (...args: A) => unknown, given: Flat, precision?: Precision): Traced {
  const { inputs, result, outputs, states } = tracing((open) => {
    const inputs = given.tensors.map((t) => freshInput({ dtype: t.dtype, shape: t.shape }));
    const args = given.rebuild(inputs.map((v) => new Tensor(handleOf(v)))) as A; // the same tree
    const result = flatten(f(...args), "jit: the result");
    const outputs = result.tensors.map(toValue);
    return { inputs, result, outputs, states: [...open.states.values()].map((s) => ({ ...s, value: use(s.handle) })) };
  }).result;
  const ends = [...outputs, ...states.map((s) => s.value)];
  const order = shallowFirst(ends);
  const { graph, storages } = structureOf(
    order.map((i) => ends[i]),
    [...inputs, ...states.map((s) => s.input)],
  );
  const names = ends.map((_, i) => graph.outputs[order.indexOf(i)].name);
  return {
    graph,
    precision,
    device: device(),
    runner: null,
    args: inputs.map(inputName),
    captured: graph.inputs.flatMap((v, i) => (storages[i] ? [{ name: inputName(v), storage: storages[i] }] : [])),
    states: states.map(({ cell, input, isWritten }, i) => {
      const output = names[outputs.length + i];
      return { cell, isWritten, input: inputName(input), output, place: placeOf(cell) };
    }),
    outputs: outputs.map((value, i) => ({ name: names[i], value })),
    result,
  };
}

/** What is done with a program and the numbers of its inputs. */
type Work<T> = (runner: Runner, inputs: Readonly<Record<string, TensorData>>) => Promise<T>;

/** Queues work that runs the program. */
function queued<T>(traced: Traced, args: readonly Tensor[], work: Work<T>): Promise<T> {
  compute(args.map((t) => t.handle));
  const given = args.map((t) => storageOf(t.handle.value) ?? refuse("jit: an argument was made inside of another compiled function")); // compute has made the others'
  const undo = traced.states.map(({ cell, isWritten }) => snapshot(cell, isWritten ? 1 : 0));
  const moved = traced.states.map(({ cell }) => place(cell));
  for (const { cell, isWritten } of traced.states) if (isWritten) overwritten(cell);
  return enqueue(async () => {
    const [runner, inputs] = await ready(traced, given, moved, undo);
    return work(runner, inputs);
  });
}

/** The program, its parameters in their places, and its inputs' numbers. */
async function ready(
  traced: Traced,
  given: readonly Storage[],
  moved: readonly (Storage | null)[],
  undo: readonly (() => void)[],
): Promise<[Runner, Record<string, TensorData>]> {
  const { args, captured, states } = traced;
  const inputs: Record<string, TensorData> = {};
  try {
    traced.runner ??= compiled(traced);
    const runner = await traced.runner;
    for (const [i, name] of args.entries()) inputs[name] = given[i].data ?? (await fetched(given[i]));
    for (const { name, storage } of captured) inputs[name] = storage.data ?? (await fetched(storage));
    for (const [i, { place }] of states.entries()) if (moved[i]) place.write(moved[i].data ?? (await fetched(moved[i])));
    return [runner, inputs];
  } catch (e) {
    for (const back of undo) back();
    throw e;
  }
}

async function compiled(traced: Traced): Promise<Runner> {
  try {
    return await Runner.make(traced.graph, await traced.device, traced.states, traced.precision);
  } catch (e) {
    traced.runner = null; // the next call tries again
    throw e;
  }
}
