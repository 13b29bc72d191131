// What a training script says: what learns, from what, by which loss and optimizer; and the options that it adds to the command line.
import type { GradualPruner } from "../compress/prune/index.ts";
import type { Dataset } from "../data/index.ts";
import { HeddleError } from "../ir/error.ts";
import type { Module, RandomStream } from "../nn/index.ts";
import type { Optimizer } from "../optim/index.ts";
import type { Parameter, Tensor } from "../tensor/index.ts";
import { type RunResult, type RunSettings, runTraining } from "./run.ts";

export type OptionValue = number | string | boolean;

/** An option of a script, as `--name <value>`: camelCase becomes dashes. */
export interface OptionSpec {
  /** Its type is the option's. */
  readonly default: OptionValue;
  readonly help: string;
}
export type OptionSpecs = Readonly<Record<string, OptionSpec>>;

type Widened<T> = T extends number ? number : T extends string ? string : boolean;
export type OptionValues<O extends OptionSpecs = OptionSpecs> = { readonly [K in keyof O]: Widened<O[K]["default"]> };

/** Tensors by the dataset's field names. */
export type TensorBatch = Readonly<Record<string, Tensor>>;

/** What `setup` is told. */
export interface SetupContext<O extends OptionSpecs = OptionSpecs> {
  readonly options: OptionValues<O>;
  readonly epochs: number;
  readonly batch: number;
  readonly seed: number;
  /** Where weights and dropout draw from: it depends on the seed, and checkpoints hold it. */
  readonly random: RandomStream;
}

/** How well the model does: called for each batch without learning; scalars by name, whose means over all examples are reported. */
export interface Evaluation {
  readonly data: Dataset;
  /** Default: the training's. */
  readonly batch?: number;
  measure(batch: TensorBatch): Readonly<Record<string, Tensor>>;
}

/** What `setup` gives. */
export interface TrainingParts {
  readonly model: Module;
  /** Shuffled by the seed in each epoch; a last batch that is not full is left out. */
  readonly data: Dataset;
  /** Threads that read ahead. Default 0: the training thread reads. */
  readonly workers?: number;
  /** A scalar to make small; compiled with its gradients and the optimizer to one program. */
  loss(batch: TensorBatch): Tensor;
  /** `steps`: how many there will be, for schedules. */
  optimizer(given: { readonly parameters: readonly Parameter[]; readonly steps: number }): Optimizer;
  /** All gradients together get no longer than this. Default: as long as they are. */
  readonly clipNorm?: number;
  /** Weights that go while the network learns: the masks follow a schedule between steps, and hold in every step, for averages too. `steps` as for the optimizer. Default: none go. */
  pruning?(given: { readonly steps: number }): GradualPruner;
  /** How slowly averages of the weights move, 0.999 for example; they are what is evaluated and written at the end. Default: no averages. */
  readonly ema?: number;
  readonly evaluate?: Evaluation;
}

export interface TrainingSpec<O extends OptionSpecs> {
  /** Of the run and of its folder. */
  readonly name: string;
  readonly epochs: number;
  readonly batch: number;
  /** Default 0. */
  readonly seed?: number;
  readonly options?: O;
  setup(context: SetupContext<O>): TrainingParts | Promise<TrainingParts>;
}

/** A script's default export. */
export interface Training {
  /** Says that this is one, whichever copy of heddle made it. */
  readonly isHeddleTraining: true;
  readonly name: string;
  readonly defaults: { readonly epochs: number; readonly batch: number; readonly seed: number };
  readonly options: OptionSpecs;
  /** Trains. Throws HeddleError. */
  run(settings?: RunSettings): Promise<RunResult>;
}

/** Options that every run has: scripts cannot name theirs so. */
export const RUN_OPTIONS = [
  "epochs",
  "batch",
  "seed",
  "threads",
  "device",
  "isa",
  "precision",
  "workers",
  "out",
  "resume",
  "steps",
  "saveEvery",
  "log",
  "csv",
  "html",
  "json",
  "help",
  "version",
] as const;

/** A training run as a value: `heddle train` runs a script's default export, a program calls its `run()`. Throws HeddleError ("bad-argument"). */
export function defineTraining<const O extends OptionSpecs = Record<never, OptionSpec>>(spec: TrainingSpec<O>): Training {
  const { name, epochs, batch, seed = 0, options = {} as O } = spec;
  if (!/^[\w.-]+$/.test(name)) throw new HeddleError("bad-argument", `defineTraining: name ${name}, wanted letters, digits and dashes`);
  const taken = Object.keys(options).find((option) => (RUN_OPTIONS as readonly string[]).includes(option));
  if (taken) throw new HeddleError("bad-argument", `defineTraining: every run has an option ${taken}; name the script's otherwise`);
  const defaults = { epochs, batch, seed };
  const setup = (context: SetupContext) => spec.setup(context as SetupContext<O>); // checked against the specs by run()
  return { isHeddleTraining: true, name, defaults, options, run: (settings = {}) => runTraining({ defaults, options, setup }, settings) };
}

/** Whether a module's default export is a training. */
export const isTraining = (value: unknown): value is Training =>
  typeof value === "object" && value !== null && "isHeddleTraining" in value && value.isHeddleTraining === true;
