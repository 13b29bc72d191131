// Handles → numbers: what is wanted and not known yet is compiled as one program, or interpreted where that takes less time.
import { type Graph, type TensorType, topologicalOrder, type Value } from "../ir/graph.ts";
import { elementCount, type TensorData } from "../ir/tensor.ts";
import { evaluateGraph } from "../ops/index.ts";
import { constantValue, inputName } from "../ops/source.ts";
import { flopsOf } from "../run/cost.ts";
import { device, enqueue, isReference, onDeviceChange } from "./device.ts";
import { recordStorage } from "./leaks.ts";
import { Runner } from "./runner.ts";
import { type Structure, structureOf } from "./structure.ts";
import { currentTrace, type Handle, refuse, type Storage, settle, storageOf } from "./trace.ts";

/** Values that wait to be computed with the next that is: what was assigned to parameters. They are settled by then. */
const waiting = new Set<Handle>();
export const computeSoon = (handle: Handle): void => {
  if (!storageOf(handle.value)) waiting.add(handle);
};
export const forget = (handle: Handle): void => {
  waiting.delete(handle);
};

/** Makes the numbers of all these handles come: known, or on their way. */
export function compute(handles: readonly Handle[]): void {
  const wanted = new Set(handles.filter((h) => !storageOf(h.value)));
  if (wanted.size === 0) return;
  for (const handle of waiting) if (!storageOf(handle.value)) wanted.add(handle);
  waiting.clear();
  const targets = [...wanted];
  const structure = structureOf(targets.map((h) => h.value));
  const results = enqueue(() => run(structure));
  results.catch(() => {});
  for (const [i, handle] of targets.entries()) settle(handle, awaited(handle.value.type, results, i));
}

/** A storage that is filled when `results` is there, with its tensor number `i`. */
export function awaited(type: TensorType, results: Promise<readonly TensorData[]>, i: number): Storage {
  const pending = results.then((list) => {
    storage.data = list[i];
    storage.pending = null;
    return list[i];
  });
  pending.catch(() => {}); // seen by whoever asks for the numbers
  const storage: Storage = { type, data: null, pending };
  recordStorage(storage);
  return storage;
}

/** The numbers of a handle. */
export async function numbersOf(handle: Handle): Promise<TensorData> {
  if (handle.isDisposed) refuse("tensor: used after dispose()");
  if (handle.trace && !storageOf(handle.value)) refuse("tensor: data() inside of jit(), where there are no numbers yet; return the tensor");
  compute([handle]);
  return fetched(storageOf(handle.value)!); // compute has made it
}

export const fetched = (storage: Storage): TensorData | Promise<TensorData> => storage.data ?? storage.pending!; // one of them is there

/** Numbers from outside of a compiled function that may become part of its code. */
const MAX_CONSTANT = 16;

/** The value of a handle for an operator that is applied now. */
export function use(handle: Handle): Value {
  if (handle.isDisposed) refuse("tensor: used after dispose()");
  const trace = currentTrace();
  if (handle.trace === trace) return handle.value;
  if (handle.trace) return refuse("tensor: made inside of jit() and used outside of it; return it from the function");
  compute([handle]);
  const storage = storageOf(handle.value)!; // compute has made it
  if (!trace || !storage.data || elementCount(storage.type.shape) > MAX_CONSTANT) return handle.value;
  const known = trace.constants.get(storage) ?? constantValue(storage.data);
  trace.constants.set(storage, known);
  return known;
}

interface Known {
  runs: number;
  runner: Promise<Runner> | null;
  /** Names of the runner's inputs, in the order of the structure's. */
  inputs: readonly string[];
}

/** Programs of what was computed outside of jit(), by structure; the one used longest ago goes first. */
const programs = new Map<string, Known>();
const MAX_PROGRAMS = 256;

/** Work that is interpreted a few times before it is compiled: it takes less than a compilation. */
const SMALL_FLOPS = 20_000;
const MAX_INTERPRETED = 3;

async function run({ graph, storages, key }: Structure): Promise<readonly TensorData[]> {
  const given = await Promise.all(storages.map((s) => fetched(s!))); // outside of traces all inputs have numbers
  const known = remember(key);
  const names = graph.outputs.map((o) => o.name);
  const own = graph.inputs.map(inputName);
  const isInterpreted = isReference() || (!known.runner && known.runs <= MAX_INTERPRETED && isSmall(graph));
  const results = isInterpreted
    ? evaluateGraph(graph, record(own, given))
    : await (await compiled(known, graph, own)).run(record(known.inputs, given));
  return names.map((name) => results[name]);
}

const record = (names: readonly string[], tensors: readonly TensorData[]): Record<string, TensorData> =>
  Object.fromEntries(names.map((name, i) => [name, tensors[i]]));

function remember(key: string): Known {
  const known = programs.get(key) ?? { runs: 0, runner: null, inputs: [] };
  known.runs++;
  programs.delete(key);
  programs.set(key, known); // put last: used most recently
  if (programs.size > MAX_PROGRAMS) {
    const [[oldest, { runner }]] = programs;
    programs.delete(oldest);
    runner?.then((r) => r.free());
  }
  return known;
}

function compiled(known: Known, graph: Graph, inputs: readonly string[]): Promise<Runner> {
  if (!known.runner) {
    known.inputs = inputs;
    known.runner = device().then((opened) => Runner.make(graph, opened));
    known.runner.catch(() => {
      known.runner = null;
    });
  }
  return known.runner;
}

function isSmall(graph: Graph): boolean {
  let flops = 0;
  for (const node of topologicalOrder(graph)) if (node.op.kind !== "source") flops += flopsOf(node);
  return flops <= SMALL_FLOPS;
}

onDeviceChange(() => {
  const old = [...programs.values()];
  programs.clear();
  for (const { runner } of old)
    if (runner) enqueue(async () => (await runner.catch(() => null))?.free()).catch(() => {}); // biome-ignore format: short
});
