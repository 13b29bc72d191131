// jit: a function of tensors, traced once for each signature and compiled to one program, with the parameters it uses as state of that program.
import type { Value } from "../ir/graph.ts";
import { inputName } from "../ops/source.ts";
import { deviceGeneration, enqueue, onDeviceChange } from "./device.ts";
import { awaited, compute, fetched, use } from "./execute.ts";
import { Runner, type StatePair } from "./runner.ts";
import { assignFrom, type Cell, neededBy, type Slot, takeHome } from "./state.ts";
import { structureOf } from "./structure.ts";
import { Tensor, toValue } from "./tensor.ts";
import { currentTrace, freshInput, handleOf, leaf, refuse, type Storage, storageOf, tracing } from "./trace.ts";
import { type Flat, flatten } from "./tree.ts";

/** A compiled function. */
export type Jitted<A extends readonly unknown[], R> = ((...args: A) => R) & {
  /** Bytes that the tensors of all its programs take. */
  arenaBytes(): Promise<number>;
  /** How many programs there are: one for each signature. */
  readonly programs: number;
  /** Frees the programs; what they hold of parameters goes to the host. It may be called again, and compiles anew. */
  dispose(): void;
  [Symbol.dispose](): void;
};

/** A traced function as a program. */
interface Traced {
  readonly runner: Promise<Runner>;
  /** Names of the inputs for the arguments, and of those for tensors from outside. */
  readonly args: readonly string[];
  readonly captured: readonly { readonly name: string; readonly storage: Storage }[];
  readonly states: readonly { readonly cell: Cell; readonly slot: Slot; readonly isWritten: boolean }[];
  readonly outputs: readonly { readonly name: string; readonly value: Value }[];
  readonly result: Flat;
  isFreed: boolean;
}

/** Programs whose parameters must come home before a device is closed. */
const living = new Set<Map<string, Traced>>();
/** Functions that were collected leave their programs behind. */
const abandoned = new FinalizationRegistry<Map<string, Traced>>((programs) => freeAll(programs));

/**
 * Compiles a function of tensors (and of lists and objects of them) the first time it is called with tensors of these shapes and types; numbers, texts and
 * booleans among the arguments belong to the signature. Parameters that it reads or assigns stay in the program's memory between calls. Other effects
 * (printing, counting in JavaScript) happen while tracing only. Inside of another compiled function it becomes part of that one.
 */
export function jit<A extends readonly unknown[], R>(f: (...args: A) => R): Jitted<A, R> {
  const programs = new Map<string, Traced>();
  living.add(programs);
  const call = (...args: A): R => {
    if (currentTrace()) return f(...args);
    const given = flatten(args, "jit");
    const key = `${deviceGeneration()} ${given.text} ${given.tensors.map((t) => `${t.dtype}[${t.shape}]`).join()}`;
    const traced = programs.get(key) ?? trace(f, given);
    programs.set(key, traced);
    return start(traced, given.tensors) as R; // the tree that f gave
  };
  const dispose = (): void => freeAll(programs);
  abandoned.register(call, programs);
  return Object.assign(call, {
    get programs() {
      return programs.size;
    },
    arenaBytes: async () => (await Promise.all([...programs.values()].map((t) => t.runner))).reduce((n, r) => n + r.arenaBytes, 0),
    dispose,
    [Symbol.dispose]: dispose,
  });
}

function trace<A extends readonly unknown[]>(f: (...args: A) => unknown, given: Flat): Traced {
  const made = tracing((open) => {
    const inputs = given.tensors.map((t) => freshInput({ dtype: t.dtype, shape: t.shape }));
    const args = given.rebuild(inputs.map((v) => new Tensor(handleOf(v)))) as A; // the same tree
    const result = flatten(f(...args), "jit: the result");
    const outputs = result.tensors.map(toValue);
    const states = [...open.states].map(([cell, state]) => ({ cell: cell as Cell, ...state, value: use(state.handle) })); // readCell put cells there
    return { inputs, result, outputs, states };
  }).result;
  const written = made.states.filter((s) => s.isWritten);
  const ends = [...made.outputs, ...written.map((s) => s.value)];
  const { graph, storages } = structureOf(ends, [...made.inputs, ...made.states.map((s) => s.input)]);
  const names = graph.outputs.map((o) => o.name);
  const outputOf = new Map(written.map((s, i) => [s.cell, names[made.outputs.length + i]]));
  const pairs: StatePair[] = made.states.map((s) => ({ input: inputName(s.input), output: outputOf.get(s.cell) ?? null }));
  const runner = Runner.make(graph, pairs);
  runner.catch(() => {}); // the calls see it
  return {
    runner,
    args: made.inputs.map(inputName),
    captured: graph.inputs.flatMap((v, i) => (storages[i] ? [{ name: inputName(v), storage: storages[i] }] : [])),
    states: made.states.map(({ cell, input, isWritten }) => ({ cell, isWritten, slot: { name: inputName(input), runner, version: -1 } })),
    outputs: made.outputs.map((value, i) => ({ name: names[i], value })),
    result: made.result,
    isFreed: false,
  };
}

/** Queues a run, and gives tensors whose numbers come from it. */
function start(traced: Traced, args: readonly Tensor[]): unknown {
  compute(args.map((t) => t.handle));
  const given = args.map((t) => storageOf(t.handle.value) ?? refuse("jit: an argument was made inside of another compiled function")); // compute has made the others'
  const needed = traced.states.map(({ slot, cell }) => neededBy(slot, cell));
  const undo = traced.states.filter((s) => s.isWritten).map(({ slot, cell }) => assignFrom(slot, cell));
  const results = enqueue(() => run(traced, given, needed, undo));
  results.catch(() => {}); // whoever asks for the results sees it
  return traced.result.rebuild(
    traced.outputs.map(({ value }, i) => {
      const storage = awaited(value.type, results, i);
      return new Tensor(leaf(storage));
    }),
  );
}

async function run(traced: Traced, given: readonly Storage[], needed: readonly (Storage | null)[], undo: readonly (() => void)[]) {
  let isRun = false;
  try {
    const runner = await traced.runner;
    const inputs: Record<string, Awaited<ReturnType<typeof fetched>>> = {};
    for (const [i, name] of traced.args.entries()) inputs[name] = given[i].data ?? (await fetched(given[i]));
    for (const { name, storage } of traced.captured) inputs[name] = storage.data ?? (await fetched(storage));
    for (const [i, { slot }] of traced.states.entries()) {
      const storage = needed[i];
      if (storage) runner.setState(slot.name, storage.data ?? (await fetched(storage)));
    }
    isRun = true;
    const results = await runner.run(inputs);
    return traced.outputs.map(({ name }) => results[name]);
  } catch (e) {
    if (!isRun) for (const back of undo.toReversed()) back();
    throw e;
  }
}

/** After what is queued: takes the parameters home and frees the programs. */
function freeAll(programs: Map<string, Traced>): void {
  const all = [...programs.values()];
  programs.clear();
  enqueue(() => free(all)).catch(() => {});
}

async function free(all: readonly Traced[]): Promise<void> {
  for (const traced of all) {
    const runner = await traced.runner.catch(() => null);
    if (!runner || traced.isFreed) continue;
    traced.isFreed = true;
    for (const { cell, slot } of traced.states) await takeHome(cell, slot);
    runner.free();
  }
}

onDeviceChange(async () => {
  for (const programs of living) {
    const all = [...programs.values()];
    programs.clear();
    await free(all);
  }
});
