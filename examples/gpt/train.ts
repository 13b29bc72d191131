// Learns a text: settings and tokens → a trained network, its losses, and a checkpoint from which the run goes on bit by bit.
import { DataLoader, type LoaderState, TextDataset } from "../../src/data/index.ts";
import { type Json, loadCheckpoint, saveCheckpoint } from "../../src/formats/checkpoint.ts";
import { HeddleError } from "../../src/ir/error.ts";
import { crossEntropy } from "../../src/nn/index.ts";
import { AdamW, clipGradNorm, schedule } from "../../src/optim/index.ts";
import { fromData, jit, type Tensor, valueAndGrad } from "../../src/tensor/index.ts";
import type { Corpus } from "./corpus.ts";
import { type Loss, makeJudge } from "./evaluate.ts";
import { Gpt, type GptOptions } from "./model.ts";

export interface Settings {
  readonly model: Omit<GptOptions, "vocabulary">;
  /** Of the whole run: the learning rate follows from it. */
  readonly steps: number;
  /** Windows in a step. */
  readonly batch: number;
  /** Largest learning rate. */
  readonly learningRate: number;
  /** Steps in which the learning rate rises. */
  readonly warmUp: number;
  readonly weightDecay: number;
  /** Gradients get no longer than this. */
  readonly clip: number;
  readonly seed: number;
}

export interface RunOptions {
  /** Where the state is kept. */
  readonly checkpoint?: string;
  /** Goes on from the checkpoint, which must be there. */
  readonly resume?: boolean;
  /** Steps between judgements and checkpoints. Default: a quarter of the run. */
  readonly every?: number;
  /** Ends here, before `steps`: another run may go on. */
  readonly until?: number;
}

export interface Progress {
  readonly step: number;
  readonly steps: number;
  /** Mean of the steps since the last report. */
  readonly loss: number;
  readonly gradNorm: number;
  readonly tokensPerSecond: number;
  /** Of the tokens held out, where they were just judged. */
  readonly valid?: Loss;
}

export interface Result {
  readonly model: Gpt;
  readonly valid: Loss;
  readonly parameters: number;
  /** Of learning alone, in this run. */
  readonly seconds: number;
  /** 0 where nothing was left to learn. */
  readonly tokensPerSecond: number;
}

/** The last learning rate, of the largest. */
const LAST_RATE = 0.05;
const REPORT_STEPS = 25;

const sizeOf = (model: Gpt): number => model.parameters().reduce((n, p) => n + p.shape.reduce((a, b) => a * b, 1), 0);

/** Forward, backward and optimizer as one program. */
function learnerOf(model: Gpt, { steps, learningRate, warmUp, weightDecay, clip }: Settings) {
  const parameters = model.parameters();
  const optimizer = new AdamW(parameters, {
    learningRate: schedule.warmUp(
      learningRate,
      warmUp,
      schedule.cosine(learningRate, Math.max(1, steps - warmUp), learningRate * LAST_RATE),
    ),
    betas: [0.9, 0.95],
    weightDecay,
    decays: (p) => p.shape.length > 1,
  });
  const step = jit((input: Tensor, target: Tensor) => {
    model.train();
    const lossOf = () => crossEntropy(model.forward(input).reshape([-1, model.options.vocabulary]), target.reshape([-1]));
    const { value, grads } = valueAndGrad(lossOf, parameters);
    const clipped = clipGradNorm(grads, clip);
    optimizer.step(clipped.grads);
    return { loss: value, norm: clipped.norm };
  });
  return { step, optimizer };
}

/** Settings as a checkpoint holds them, with the size of the vocabulary. */
export const notesOf = (settings: Settings, vocabulary: number): Json => JSON.parse(JSON.stringify({ ...settings, vocabulary }));

export async function train(
  settings: Settings,
  corpus: Corpus,
  { checkpoint, resume = false, every = Math.ceil(settings.steps / 4), until = settings.steps }: RunOptions = {},
  report: (progress: Progress) => void = () => {},
): Promise<Result> {
  const { steps, batch, seed } = settings;
  const { context } = settings.model;
  const model = new Gpt({ ...settings.model, vocabulary: corpus.tokenizer.vocabSize }, seed);
  const { step, optimizer } = learnerOf(model, settings);
  const dataset = new TextDataset(corpus.train, { window: context, stride: Math.ceil(context / 2) }); // each token late in a window and early in another
  const loader = new DataLoader({ dataset, batchSize: batch, shuffle: true, seed, dropLast: true });
  const judge = makeJudge(model, corpus);
  const notes = notesOf(settings, model.options.vocabulary);
  let done = 0;
  if (resume) {
    const saved = await loadCheckpoint(checkpoint ?? refuse("to resume, it needs a checkpoint"));
    if (JSON.stringify(saved.notes) !== JSON.stringify(notes)) refuse(`${checkpoint} is of a run with other settings`);
    model.loadStateDict(saved.model);
    optimizer.loadStateDict(saved.optimizer!);
    await loader.restore(saved.loader as unknown as LoaderState); // as the run wrote it
    done = saved.step;
  }
  const save = async (): Promise<void> => {
    if (!checkpoint) return;
    const [weights, state] = [await model.stateDict(), await optimizer.stateDict()];
    await saveCheckpoint(checkpoint, { model: weights, optimizer: state, loader: loader.state() as unknown as Json, step: done, notes });
  };
  const first = done;
  let [seconds, valid] = [0, undefined as Loss | undefined];
  let pending: { loss: Tensor; norm: Tensor }[] = [];
  let start = performance.now();
  for await (const { input, target } of loader.repeat()) {
    if (done >= until) break;
    pending.push(step(fromData(input), fromData(target)));
    done++;
    const isJudged = done % every === 0 || done === until;
    if (pending.length < REPORT_STEPS && !isJudged) continue;
    const losses = await Promise.all(pending.map(({ loss }) => loss.item()));
    const gradNorm = await pending.at(-1)!.norm.item();
    const took = (performance.now() - start) / 1000;
    seconds += took;
    valid = undefined;
    if (isJudged) {
      valid = await judge.loss();
      await save();
    }
    const loss = losses.reduce((a, b) => a + b) / losses.length;
    report({ step: done, steps, loss, gradNorm, tokensPerSecond: (losses.length * batch * context) / took, ...(valid && { valid }) });
    pending = [];
    start = performance.now();
    if (done >= until) break; // before another batch is asked for: the loader's state counts it
  }
  valid ??= await judge.loss();
  step.dispose();
  judge.dispose();
  const tokensPerSecond = done > first ? ((done - first) * batch * context) / seconds : 0;
  return { model, valid, parameters: sizeOf(model), seconds, tokensPerSecond };
}

function refuse(message: string): never {
  throw new HeddleError("bad-input", `gpt: ${message}`);
}
