// The whole state of a run ↔ a checkpoint: weights, optimizer, averages, where the loader is, keys of random streams, settings and history.
import type { GradualPruner } from "../compress/prune/index.ts";
import type { DataLoader, LoaderState } from "../data/index.ts";
import type { Checkpoint, Json } from "../formats/checkpoint.ts";
import { HeddleError } from "../ir/error.ts";
import type { Precision } from "../ir/precision.ts";
import { type Module, RandomStream } from "../nn/index.ts";
import type { EMA, LossScale, Optimizer } from "../optim/index.ts";
import { fromArray } from "../tensor/index.ts";
import type { OptionSpecs, OptionValue } from "./define.ts";

/** What must be the same for a run to go on as it would have. */
export interface RunIdentity {
  readonly epochs: number;
  readonly batch: number;
  readonly seed: number;
  /** What products and convolutions multiply. */
  readonly precision: Precision;
  readonly options: Readonly<Record<string, OptionValue>>;
}

/** Mean loss of some steps, up to step number `step`. */
export interface LossPoint {
  readonly step: number;
  readonly loss: number;
}

export interface EpochResult {
  readonly epoch: number;
  readonly step: number;
  readonly metrics: Readonly<Record<string, number>>;
}

export interface History {
  readonly losses: LossPoint[];
  readonly epochs: EpochResult[];
  /** Losses of steps that no point counts yet. */
  pending: number[];
  /** Learning took so long, over all processes. */
  seconds: number;
}

/** All that a run changes. */
export interface RunState {
  readonly model: Module;
  readonly optimizer: Optimizer;
  readonly ema: EMA | null;
  readonly pruner: GradualPruner | null;
  /** Of losses, where gradients have float16's range. */
  readonly scale: LossScale | null;
  readonly loader: DataLoader;
  readonly streams: readonly RandomStream[];
  readonly history: History;
}

interface Notes {
  readonly identity: RunIdentity;
  readonly history: History;
  readonly keys: readonly (readonly number[])[];
}

/** The run's stream, and those that modules hold besides. */
export function streamsOf(model: Module, first: RandomStream): RandomStream[] {
  const held = [...model.modules()].flatMap((module) => Object.values(module).filter((v) => v instanceof RandomStream));
  return [...new Set([first, ...held])];
}

export async function saved(
  { model, optimizer, ema, pruner, scale, loader, streams, history }: RunState,
  step: number,
  identity: RunIdentity,
) {
  const notes: Notes = { identity, history, keys: await Promise.all(streams.map(async (s) => [...(await s.state.value.numbers())])) };
  return {
    model: await model.stateDict(),
    optimizer: await optimizer.stateDict(),
    ...(ema && { ema: await ema.stateDict() }),
    ...(pruner && { masks: await pruner.stateDict() }),
    ...(scale && { scale: await scale.stateDict() }),
    loader: loader.state() as LoaderState & Json,
    step,
    notes: notes as Notes & Json,
  } satisfies Checkpoint;
}

const notesOf = ({ notes }: Checkpoint): Notes | undefined => {
  const found = notes as (Partial<Notes> & Json) | null; // what saved() wrote, as far as it is checked here
  return found?.identity && found.history && found.keys ? (found as Notes) : undefined;
};

/** Puts a checkpoint's state in place. Throws HeddleError ("bad-argument", "bad-input") where it is of another run. */
export async function restore(state: RunState, checkpoint: Checkpoint, path: string): Promise<void> {
  const notes = notesOf(checkpoint);
  const lacks =
    !checkpoint.optimizer || (state.ema && !checkpoint.ema) || (state.pruner && !checkpoint.masks) || (state.scale && !checkpoint.scale);
  if (notes?.keys.length !== state.streams.length || !checkpoint.optimizer || lacks)
    throw new HeddleError("bad-input", `${path}: is not a checkpoint of this training script`);
  state.model.loadStateDict(checkpoint.model);
  state.optimizer.loadStateDict(checkpoint.optimizer);
  if (checkpoint.ema) state.ema?.loadStateDict(checkpoint.ema);
  if (checkpoint.masks) state.pruner?.loadStateDict(checkpoint.masks);
  if (checkpoint.scale) state.scale?.loadStateDict(checkpoint.scale);
  await state.loader.restore(checkpoint.loader as Json & LoaderState); // checked there
  for (const [i, stream] of state.streams.entries()) stream.state.value = fromArray(Uint32Array.from(notes.keys[i]), [2]);
  Object.assign(state.history, notes.history);
}

interface Wanted extends Partial<Omit<RunIdentity, "options">> {
  readonly options?: Readonly<Record<string, OptionValue>>;
}

/** Settings as given, else as in the checkpoint, else the script's. Throws HeddleError ("bad-argument") for one that the checkpoint has otherwise, or that is no option. */
export function identityOf(
  { defaults, options: specs }: { readonly defaults: Omit<RunIdentity, "options" | "precision">; readonly options: OptionSpecs },
  { epochs, batch, seed, precision, options = {} }: Wanted,
  checkpoint: Checkpoint | null,
): RunIdentity {
  const then = checkpoint ? notesOf(checkpoint)?.identity : undefined;
  const pick = <T extends OptionValue>(name: string, given: T | undefined, before: OptionValue | undefined, otherwise: T): T => {
    if (given !== undefined && typeof given !== typeof otherwise)
      throw new HeddleError("bad-argument", `train: ${name} is ${given}, wanted a ${typeof otherwise}`);
    if (given !== undefined && before !== undefined && given !== before)
      throw new HeddleError("bad-argument", `train: ${name} is ${given}, but the run that is resumed has ${before}; leave it out`);
    return given ?? (before as T | undefined) ?? otherwise; // saved by this script
  };
  const unknown = Object.keys(options).find((name) => !(name in specs));
  if (unknown) throw new HeddleError("bad-argument", `train: the script has no option ${unknown} (it has ${Object.keys(specs).join(", ") || "none"})`); // biome-ignore format: one message
  const identity = {
    epochs: pick("epochs", epochs, then?.epochs, defaults.epochs),
    batch: pick("batch", batch, then?.batch, defaults.batch),
    seed: pick("seed", seed, then?.seed, defaults.seed),
    precision: pick<Precision>("precision", precision, then && (then.precision ?? "f32"), "f32"), // older checkpoints do not say it
    options: Object.fromEntries(
      Object.entries(specs).map(([name, spec]) => [name, pick(name, options[name], then?.options[name], spec.default)]),
    ),
  };
  for (const [name, least] of Object.entries({ epochs: 1, batch: 1, seed: 0 })) {
    const value = identity[name as "epochs"]; // one of the three
    if (!Number.isSafeInteger(value) || value < least)
      throw new HeddleError("bad-argument", `train: ${name} is ${value}, wanted a whole number from ${least} on`);
  }
  return identity;
}
