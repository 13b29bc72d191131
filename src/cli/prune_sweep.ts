// The same network pruned to several sparsities → how near each stays to the dense one, and what each takes beside it.
import { type PruneOptions, pruneOnnx } from "../compress/prune/index.ts";
import type { DeviceOptions } from "../devices/open.ts";
import type { OnnxModel } from "../formats/onnx/read.ts";
import { replaceWeights } from "../formats/onnx/replace_weights.ts";
import { loadModel, type Model } from "../model.ts";
import type { Inputs } from "./batches.ts";
import type { HeldOut, Judge } from "./held_out.ts";
import { interleave } from "./interleave.ts";
import { median, rounded } from "./statistics.ts";
import { percentText } from "./units.ts";

export interface SweepPoint {
  /** Of the layers that can be pruned. */
  readonly sparsity: number;
  /** Null: there were no inputs to compare on. */
  readonly meanCosine: number | null;
  readonly sameClass: number | null;
  /** The median of runs in turns with the others. */
  readonly ms: number;
  /** Whether it is the network that was asked for, and whether it learned from the dense one: the others did not. */
  readonly isWritten: boolean;
  readonly isTaught: boolean;
}

/** A network that is there already. */
export interface Known {
  readonly bytes: Uint8Array;
  readonly sparsity: number;
  readonly agreement: HeldOut | null;
  readonly isWritten?: boolean;
  readonly isTaught?: boolean;
}

export interface SweepTask {
  readonly model: OnnxModel;
  readonly pruneOptions: PruneOptions;
  readonly sparsities: readonly number[];
  readonly known: readonly Known[];
  /** Null: there is nothing to judge by. */
  readonly judge: Judge | null;
  /** What is timed. */
  readonly inputs: Inputs;
  readonly device: DeviceOptions;
  readonly directory: string;
  readonly progress: (text: string) => void;
}

/** Of each network. Seven of them take five seconds. */
const SECONDS = 0.7;

/** In the order of their sparsity. Without distillation, which would take as long for each. */
export async function sweepSparsities(task: SweepTask): Promise<SweepPoint[]> {
  const { model, pruneOptions, sparsities, known, judge, progress } = task;
  const networks: Known[] = [...known];
  for (const sparsity of sparsities) {
    const say = (text: string): void => progress(`report, ${percentText(sparsity)} sparse: ${text}`);
    const { weights, density } = await pruneOnnx(model, { ...pruneOptions, sparsity, errors: false, progress: say });
    const bytes = replaceWeights(model, weights);
    networks.push({ bytes, sparsity: 1 - density, agreement: judge && (await judge(bytes)) });
  }
  progress("report: timing");
  const times = await mediansOf(networks, task);
  const points = networks.map(({ sparsity, agreement, isWritten = false, isTaught = false }, i) => ({
    sparsity,
    meanCosine: agreement?.meanCosine ?? null,
    sameClass: agreement?.sameClass ?? null,
    ms: rounded(times[i]),
    ...{ isWritten, isTaught },
  }));
  return points.sort((a, b) => a.sparsity - b.sparsity);
}

async function mediansOf(networks: readonly Known[], { device, directory, inputs }: SweepTask): Promise<number[]> {
  const models: Model[] = [];
  try {
    for (const { bytes } of networks) models.push(await loadModel(bytes, { ...device, directory, cache: false }));
    const contenders = models.map((one) => ({ run: () => one.run(inputs) }));
    return (await interleave(contenders, { seconds: SECONDS })).map(median);
  } finally {
    for (const one of models) one[Symbol.dispose]();
  }
}
