// Runs a training: builds the compiled step, feeds it from the loader, evaluates each epoch, saves checkpoints, and goes on from one.
import { createHash } from "node:crypto";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { DataLoader, type Dataset } from "../data/index.ts";
import { type Checkpoint, loadCheckpoint, saveCheckpoint } from "../formats/checkpoint.ts";
import { saveSafetensors } from "../formats/safetensors.ts";
import { DTYPES, isFloat } from "../ir/dtype.ts";
import { HeddleError } from "../ir/error.ts";
import type { Precision } from "../ir/precision.ts";
import { elementCount, type TensorData } from "../ir/tensor.ts";
import { type Module, RandomStream } from "../nn/index.ts";
import { clipGradNorm, EMA, LossScale } from "../optim/index.ts";
import { assertMultiplies } from "../tensor/device.ts";
import { fromData, type Jitted, jit, type Parameter, setDevice, type Tensor, valueAndGrad } from "../tensor/index.ts";
import type { Evaluation, OptionSpecs, OptionValue, OptionValues, SetupContext, TensorBatch, TrainingParts } from "./define.ts";
import { type EpochResult, type History, identityOf, type RunIdentity, type RunState, restore, saved, streamsOf } from "./saved.ts";

export interface RunSettings {
  readonly epochs?: number;
  readonly batch?: number;
  readonly seed?: number;
  /** What products and convolutions multiply, forward and backward; weights and all else stay float32. With "f16" losses are scaled. Default: "f32". */
  readonly precision?: Precision;
  /** The script's own. */
  readonly options?: Readonly<Record<string, OptionValue>>;
  /** Where to compute. Default: as setDevice() was told. */
  readonly device?: Parameters<typeof setDevice>[0];
  /** Threads that read data. Default: the script's. */
  readonly workers?: number;
  /** Folder for checkpoint.safetensors and model.safetensors. Default: nothing is written. */
  readonly out?: string;
  /** Goes on from the checkpoint in `out`: settings that are not given are those of that run. */
  readonly resume?: boolean;
  /** Saves after so many steps, besides after each epoch. */
  readonly saveEvery?: number;
  /** Ends after step number `steps`; schedules go on as if it did not. */
  readonly steps?: number;
  /** Saves and ends after the step that is being done. */
  readonly signal?: AbortSignal;
  report?(event: RunEvent): void;
}

export interface StepEvent {
  readonly kind: "step";
  readonly epoch: number;
  readonly step: number;
  readonly steps: number;
  readonly loss: number;
  /** Of learning in this process, without evaluation. */
  readonly stepsPerSecond: number;
  /** Part of the learning time that the step waited for data. */
  readonly waiting: number;
  readonly secondsLeft: number;
}

export interface Planned {
  /** Tensors of the step's program. */
  readonly arenaBytes: number;
  /** Weights, running statistics, what the optimizer remembers, averages, masks. */
  readonly stateBytes: number;
}

export type RunEvent =
  | { readonly kind: "begin"; readonly step: number; readonly steps: number; readonly epochs: number; readonly parameters: number }
  | ({ readonly kind: "memory" } & Planned)
  | StepEvent
  | {
      readonly kind: "loss";
      readonly epoch: number;
      readonly step: number;
      readonly loss: number;
      readonly learningRate: number;
      readonly seconds: number;
    }
  | ({ readonly kind: "epoch"; readonly loss: number; readonly seconds: number } & EpochResult)
  | { readonly kind: "save"; readonly step: number; readonly path: string };

export interface RunResult extends Planned {
  readonly identity: RunIdentity;
  readonly model: Module;
  readonly step: number;
  /** Whether the signal, or `steps`, ended it before its last step. */
  readonly isComplete: boolean;
  readonly history: History;
  /** Of learning, over all processes. */
  readonly seconds: number;
  /** Of this process. */
  readonly stepsPerSecond: number;
  readonly waiting: number;
  /** Steps that were left out because float16 gradients overflowed, over all processes. */
  readonly skipped: number;
  /** SHA-256 of all that the model learned and counted: equal for equal seeds. */
  readonly digest: string;
}

/** What defineTraining was given. */
interface Definition {
  readonly defaults: { readonly epochs: number; readonly batch: number; readonly seed: number };
  readonly options: OptionSpecs;
  setup(context: SetupContext): TrainingParts | Promise<TrainingParts>;
}

export const checkpointPath = (out: string): string => join(out, "checkpoint.safetensors");
export const weightsPath = (out: string): string => join(out, "model.safetensors");

/** Losses are averaged over a part of an epoch this large. */
const POINTS_PER_EPOCH = 20;

export async function runTraining(definition: Definition, settings: RunSettings): Promise<RunResult> {
  if (settings.device) setDevice(settings.device);
  const checkpoint = settings.resume ? await readCheckpoint(settings.out) : null;
  const identity = identityOf(definition, settings, checkpoint);
  await assertMultiplies(identity.precision);
  const random = new RandomStream(identity.seed);
  const options = identity.options as OptionValues; // identityOf has checked them
  const parts = await definition.setup({ ...identity, options, random });
  await using run = new Run(parts, settings, identity, random);
  if (checkpoint && settings.out) await restore(run.state, checkpoint, checkpointPath(settings.out));
  return await run.learn(checkpoint?.step ?? 0);
}

async function readCheckpoint(out: string | undefined): Promise<Checkpoint> {
  if (out === undefined) throw new HeddleError("bad-argument", "train: to resume a run wants the folder (out) that it wrote to");
  return loadCheckpoint(checkpointPath(out));
}

/** One run with its programs and its loader's threads. */
class Run implements AsyncDisposable {
  readonly state: RunState;
  private readonly steps: number;
  private readonly step: Jitted<[TensorBatch], Tensor>;
  private readonly measure: Jitted<[TensorBatch], Readonly<Record<string, Tensor>>>;
  private began = 0;
  private done = 0;
  private learnedMs = 0;
  private planned: Planned | null = null;

  constructor(
    private readonly parts: TrainingParts,
    private readonly settings: RunSettings,
    private readonly identity: RunIdentity,
    random: RandomStream,
  ) {
    const { model, data, loss, clipNorm, ema: decay, evaluate } = parts;
    const { batch, seed, epochs, precision } = identity;
    const workers = settings.workers ?? parts.workers ?? 0;
    const loader = new DataLoader({ dataset: data, batchSize: batch, shuffle: true, seed, dropLast: true, workers, reuse: true });
    this.steps = epochs * loader.length;
    const parameters = model.parameters();
    const optimizer = parts.optimizer({ parameters, steps: this.steps });
    const averaged = averagedOf(model);
    const ema = decay === undefined ? null : new EMA(averaged, decay);
    const pruner = parts.pruning?.({ steps: this.steps }) ?? null;
    const scale = precision === "f16" ? new LossScale() : null;
    const history: History = { losses: [], epochs: [], pending: [], seconds: 0 };
    this.state = { model, optimizer, ema, pruner, scale, loader, streams: streamsOf(model, random), history };
    const learn = (given: TensorBatch): Tensor => {
      model.train();
      const { value, grads } = valueAndGrad(() => scaled(scale, loss(given)), [...optimizer.parameters]);
      const [own, ...slopes] = scale ? scale.unscaled([value, ...grads]) : [value, ...grads];
      const clipped = clipNorm === undefined ? slopes : clipGradNorm(slopes, clipNorm).grads;
      const update = (all: readonly Tensor[], condition?: Tensor): void => {
        if (pruner) pruner.masks.step(optimizer, all, condition);
        else if (condition) optimizer.stepIf(condition, all);
        else optimizer.step(all);
      };
      if (scale) scale.step({ stepIf: (condition, all) => update(all, condition) }, clipped);
      else update(clipped);
      ema?.update();
      for (const [i, average] of (ema?.averages ?? []).entries()) pruner?.masks.hold(averaged[i], average);
      return own;
    };
    const measure = (given: TensorBatch): Readonly<Record<string, Tensor>> => {
      model.eval();
      return evaluate?.measure(given) ?? {};
    };
    this.step = jit(learn, { precision });
    this.measure = jit(measure, { precision });
  }

  async learn(from: number): Promise<RunResult> {
    const { loader, history, model } = this.state;
    const { signal, saveEvery = Number.POSITIVE_INFINITY } = this.settings;
    const last = Math.min(this.steps, this.settings.steps ?? this.steps);
    const parameters = model.parameters().reduce((n, p) => n + elementCount(p.shape), 0);
    this.say({ kind: "begin", step: from, steps: this.steps, epochs: this.identity.epochs, parameters });
    const pointEvery = Math.ceil(loader.length / POINTS_PER_EPOCH);
    [this.began, this.done] = [from, from];
    let savedAt = from;
    const save = async (): Promise<void> => {
      await this.save();
      savedAt = this.done;
    };
    const batches = loader.repeat();
    while (this.done < last && !signal?.aborted) {
      await this.learnFrom((await batches.next()).value);
      const inEpoch = this.done % loader.length;
      if (inEpoch === 0 || inEpoch % pointEvery === 0) await this.notePoint();
      if (inEpoch === 0) await this.endEpoch();
      if (inEpoch === 0 || this.done - savedAt >= saveEvery) await save();
    }
    if (savedAt < this.done) await save();
    const digest = await this.finish();
    return {
      identity: this.identity,
      model,
      step: this.done,
      isComplete: this.done >= this.steps,
      history,
      ...(this.planned ?? (await this.plannedBytes())),
      seconds: history.seconds,
      ...this.speed(),
      skipped: (await this.state.scale?.skipped.value.item()) ?? 0,
      digest,
    };
  }

  private async learnFrom(batch: Readonly<Record<string, TensorData>>): Promise<void> {
    const { loader, history, pruner } = this.state;
    const start = performance.now() - this.takeWaited();
    await pruner?.before(this.done);
    const given = tensorsOf(batch);
    using result = this.step(given);
    const loss = await result.item();
    dispose(given);
    this.done++;
    if (!Number.isFinite(loss))
      throw new HeddleError(
        "bad-input",
        `train: the loss is ${loss} at step ${this.done}; a smaller learning rate, clipNorm or a warm-up may help`,
      );
    const ms = performance.now() - start;
    this.learnedMs += ms;
    history.seconds += ms / 1000;
    history.pending.push(loss);
    if (!this.planned) {
      this.planned = await this.plannedBytes();
      this.say({ kind: "memory", ...this.planned });
    }
    const epoch = Math.ceil(this.done / loader.length);
    const secondsLeft = (this.steps - this.done) / this.speed().stepsPerSecond;
    this.say({ kind: "step", epoch, step: this.done, steps: this.steps, loss, secondsLeft, ...this.speed() });
  }

  private waitedMs = 0;
  /** Milliseconds that the loader was waited for since this was asked last. */
  private takeWaited(): number {
    const before = this.waitedMs;
    this.waitedMs = this.state.loader.waitedMs;
    return this.waitedMs - before;
  }

  private speed(): { stepsPerSecond: number; waiting: number } {
    if (this.learnedMs === 0) return { stepsPerSecond: 0, waiting: 0 };
    return { stepsPerSecond: (1000 * (this.done - this.began)) / this.learnedMs, waiting: this.waitedMs / this.learnedMs };
  }

  private async notePoint(): Promise<void> {
    const { history, loader, optimizer } = this.state;
    const loss = mean(history.pending);
    history.pending = [];
    history.losses.push({ step: this.done, loss });
    const learningRate = await optimizer.learningRate().item(); // it may be the optimizer's own tensor, which is not ours to dispose
    const epoch = Math.ceil(this.done / loader.length);
    this.say({ kind: "loss", epoch, step: this.done, loss, learningRate, seconds: history.seconds });
  }

  private async endEpoch(): Promise<void> {
    const { history, loader, pruner } = this.state;
    const epoch = this.done / loader.length;
    const { evaluate } = this.parts;
    const metrics = {
      ...(pruner && { sparsity: 1 - (await pruner.masks.density()) }),
      ...(evaluate && (await this.withAverages(() => this.evaluate(evaluate)))),
    };
    const loss = mean(history.losses.filter((p) => p.step > this.done - loader.length).map((p) => p.loss));
    history.epochs.push({ epoch, step: this.done, metrics });
    this.say({ kind: "epoch", epoch, step: this.done, metrics, loss, seconds: history.seconds });
  }

  private withAverages<T>(f: () => Promise<T>): Promise<T> {
    const { ema } = this.state;
    return ema ? ema.with(f) : f();
  }

  private async evaluate({ data, batch = this.identity.batch }: Evaluation): Promise<Record<string, number>> {
    const totals: Record<string, number> = {};
    for await (const part of inOrder(data, batch)) {
      const given = tensorsOf(part.batch);
      const measured = this.measure(given);
      for (const [name, value] of Object.entries(measured)) totals[name] = (totals[name] ?? 0) + part.count * (await value.item());
      dispose(given);
      dispose(measured);
    }
    return Object.fromEntries(Object.entries(totals).map(([name, total]) => [name, total / data.length]));
  }

  private async save(): Promise<void> {
    const { out } = this.settings;
    if (out === undefined) return;
    await mkdir(out, { recursive: true });
    const path = checkpointPath(out);
    await saveCheckpoint(path, await saved(this.state, this.done, this.identity));
    this.say({ kind: "save", step: this.done, path });
  }

  /** Writes the weights of a run that is complete; returns the digest of those that the next step would start from. */
  private async finish(): Promise<string> {
    const { model } = this.state;
    const { out } = this.settings;
    model.eval();
    const digest = digestOf(await model.stateDict());
    if (out !== undefined && this.done >= this.steps)
      await this.withAverages(async () => saveSafetensors(weightsPath(out), await model.stateDict(), { format: "pt" }));
    return digest;
  }

  private async plannedBytes(): Promise<Planned> {
    const { model, optimizer, ema, pruner, scale } = this.state;
    const tensors: readonly Pick<Parameter, "shape" | "dtype">[] = [
      ...[...model.namedState()].map(([, parameter]) => parameter),
      ...Object.values(await optimizer.stateDict()),
      ...(ema?.state ?? []),
      ...(pruner?.masks.state ?? []),
      ...(scale?.state ?? []),
    ];
    const stateBytes = tensors.reduce((n, t) => n + elementCount(t.shape) * DTYPES[t.dtype].bytes, 0);
    return { arenaBytes: await this.step.arenaBytes(), stateBytes };
  }

  private say(event: RunEvent): void {
    this.settings.report?.(event);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.step.dispose();
    this.measure.dispose();
    await this.state.loader.close();
  }
}

const scaled = (scale: LossScale | null, loss: Tensor): Tensor => (scale ? scale.scaled(loss) : loss);

/** Weights, and the statistics that were counted with them; each gets its key as a name if it has none. */
function averagedOf(model: Module): Parameter[] {
  const found = [...model.namedState()].filter(([, { dtype }]) => isFloat(dtype));
  for (const [key, parameter] of found) parameter.name ||= key;
  return [...new Set(found.map(([, parameter]) => parameter))]; // shared ones have several keys
}

const mean = (numbers: readonly number[]): number => numbers.reduce((a, b) => a + b, 0) / Math.max(1, numbers.length);

const tensorsOf = (batch: Readonly<Record<string, TensorData>>): TensorBatch =>
  Object.fromEntries(Object.entries(batch).map(([field, data]) => [field, fromData(data)]));

function dispose(tensors: Readonly<Record<string, Tensor>>): void {
  for (const tensor of Object.values(tensors)) tensor.dispose();
}

/** All examples once, a last batch with the rest, and how many each holds. */
async function* inOrder(dataset: Dataset, batchSize: number) {
  await using loader = new DataLoader({ dataset, batchSize });
  for await (const batch of loader) yield { batch, count: Object.values(batch)[0].shape[0] };
}

function digestOf(dict: Readonly<Record<string, TensorData>>): string {
  const hash = createHash("sha256");
  for (const [key, { data }] of Object.entries(dict))
    hash.update(key).update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  return hash.digest("hex");
}
