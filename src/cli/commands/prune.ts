// heddle prune: a network and inputs in, the same network with most weights zero out, and how near its outputs stay.
import { readFile } from "node:fs/promises";
import { dirname } from "node:path";
import {
  type LayerReport,
  METHODS,
  type Method,
  type PruneOptions,
  type PruneResult,
  parseGrain,
  predictedCost,
  pruneOnnx,
} from "../../compress/prune/index.ts";
import { type OnnxModel, readOnnx } from "../../formats/onnx/read.ts";
import { replaceWeights } from "../../formats/onnx/replace_weights.ts";
import { resolveShapes } from "../../formats/onnx/shapes.ts";
import { writeFileAtomic } from "../../formats/write_file.ts";
import { isFloat } from "../../ir/dtype.ts";
import { HeddleError } from "../../ir/error.ts";
import { type TensorData, toNumbers } from "../../ir/tensor.ts";
import { loadModel, type Tensors } from "../../model.ts";
import { OnnxModule } from "../../nn/index.ts";
import { setDevice } from "../../tensor/index.ts";
import { compareOutputs } from "../agreement.ts";
import { generatedBatches, type Inputs, readBatches } from "../batches.ts";
import { type Command, type Invocation, type Options, type Outcome, UsageError } from "../command.ts";
import { type InputType, modelPath } from "../open_model.ts";
import {
  choiceOption,
  deviceOptions,
  flagOption,
  listOption,
  namedShapes,
  numberOption,
  shapeTexts,
  textOption,
  textsOption,
} from "../options.ts";
import { pictureOptions } from "../picture_options.ts";
import { type BenchPoint, readBench, reportPage, type SweepPoint } from "../prune_report.ts";
import { formatTable } from "../table.ts";
import { countText, percentText, short } from "../units.ts";

/** How the pruned network's outputs compare with the dense one's, on inputs that neither calibration nor distillation saw. */
export interface HeldOut {
  readonly batches: number;
  /** The least and the mean of all outputs of all batches. */
  readonly minCosine: number;
  readonly meanCosine: number;
  readonly maxAbs: number | null;
  /** Places at which the largest entry along the last axis is the same. */
  readonly sameClass: number;
}

export const prune: Command = async (invocation) => {
  const { options, progress } = invocation;
  const path = modelPath(invocation);
  const settings = settingsOf(options);
  const device = deviceOptions(options);
  setDevice(device);
  const bytes = await readFile(path).catch((cause) => {
    throw new HeddleError("missing", `model ${path}: it cannot be read`, { cause });
  });
  const model = readOnnx(bytes, { directory: dirname(path) });
  checkExcluded(model, options);
  const { calibration, held } = await inputsOf(model, options, settings.seed);
  const method = settings.method ?? (calibration.length > 0 ? "sparsegpt" : "magnitude");
  const pruneOptions: PruneOptions = {
    ...settings,
    method,
    batches: calibration,
    shapes: namedShapes(shapeTexts(options), model.inputs),
    fit: calibration.length > 0 && options.fit !== false,
    cost: settings.allocate === "speed" ? await predictedCost(device) : undefined,
    progress,
  };
  const steps = settings.distillSteps;
  const distill = steps
    ? {
        steps,
        learningRate: settings.rate,
        seed: settings.seed,
        report: (step: number, loss: number) => progress(`distilling: step ${step}/${steps}, loss ${short(loss)}`),
      }
    : undefined;
  const result = await pruneOnnx(model, { ...pruneOptions, distill });
  const written = replaceWeights(model, result.weights, { sparseStorage: flagOption(options, "sparseStorage") });
  progress("comparing with the dense network");
  const judge = await judgeOf(bytes, held, device, dirname(path));
  const agreement = held.length > 0 ? await judge(written) : null;
  if (settings.output) await writeFileAtomic(settings.output, written);
  if (settings.report) await writeReport(settings.report, { path, model, pruneOptions, result, agreement, judge, options, progress });
  const json = {
    model: path,
    output: settings.output ?? null,
    method,
    sparsity: 1 - result.density,
    networkSparsity: 1 - result.networkDensity,
    bytes: { dense: bytes.length, pruned: written.length },
    agreement,
    distillation: steps ? { steps, firstLoss: result.losses[0], lastLoss: result.losses.at(-1) } : null,
    layers: result.layers,
  };
  return { json, text: () => textOf(json) } satisfies Outcome;
};

interface Settings {
  readonly sparsity: number;
  readonly method: Method | undefined;
  readonly grain: PruneOptions["grain"];
  readonly scope: PruneOptions["scope"];
  readonly allocate: "size" | "speed" | undefined;
  readonly exclude: (name: string) => boolean;
  readonly candidates: number | undefined;
  readonly seed: number;
  readonly distillSteps: number;
  readonly rate: number | undefined;
  readonly output: string | undefined;
  readonly report: string | undefined;
}

function settingsOf(options: Options): Settings {
  const grain = parseGrain(textOption(options, "grain") ?? "element");
  const sparsity = numberOption(options, "sparsity", { min: 0, max: 1 });
  if (sparsity === undefined && typeof grain !== "object") throw new UsageError("--sparsity: wanted, for example --sparsity 0.9");
  if (sparsity !== undefined && typeof grain === "object") throw new UsageError("--sparsity: a grain N:M says it already; leave one out");
  const excluded = new Set(listOption(options, "exclude"));
  return {
    sparsity: sparsity ?? 0,
    method: choiceOption(options, "method", METHODS),
    grain,
    scope: choiceOption(options, "scope", ["row", "layer", "global"]),
    allocate: choiceOption(options, "allocate", ["size", "speed"]),
    exclude: (name) => excluded.has(name),
    candidates: numberOption(options, "candidates", { min: 1, max: 1e6, isInteger: true }),
    seed: numberOption(options, "seed", { min: 0, isInteger: true }) ?? 1,
    distillSteps: numberOption(options, "distill", { min: 0, max: 1e7, isInteger: true }) ?? 0,
    rate: numberOption(options, "rate", { min: 0, max: 10 }),
    output: textOption(options, "output"),
    report: textOption(options, "report"),
  };
}

/** A name that is mistyped would prune what was to stay. */
function checkExcluded(model: OnnxModel, options: Options): void {
  const excluded = listOption(options, "exclude");
  if (excluded.length === 0) return;
  const names = new Set([...new OnnxModule(model).namedState()].map(([name]) => name));
  const unknown = excluded.find((name) => !names.has(name));
  if (unknown !== undefined) throw new UsageError(`--exclude: the model has no weight ${unknown}`);
}

/** Of all batches the last quarter is held out. */
async function inputsOf(
  model: OnnxModel,
  options: Options,
  seed: number,
): Promise<{ calibration: readonly Inputs[]; held: readonly Inputs[] }> {
  const paths = textsOption(options, "data");
  if (paths.length === 0 && !flagOption(options, "generate")) return { calibration: [], held: [] };
  const types = batchTypes(model, options);
  const samples = numberOption(options, "samples", { min: 2, max: 1e9, isInteger: true }) ?? 64;
  const batches =
    paths.length > 0
      ? await readBatches(paths, { inputs: types, picture: pictureOptions(options), samples })
      : generatedBatches(types, samples, seed);
  if (batches.length < 2)
    throw new HeddleError(
      "bad-input",
      `--data: ${batches.length} batches of ${types[0].shape[0]}, wanted two or more: one is held out; see --batch`,
    );
  const count = Math.max(1, Math.floor(batches.length / 4));
  return { calibration: batches.slice(0, -count), held: batches.slice(-count) };
}

/** An open first size is --batch. */
function batchTypes(model: OnnxModel, options: Options): InputType[] {
  const batch = numberOption(options, "batch", { min: 1, max: 1e6, isInteger: true }) ?? 8;
  const given = namedShapes(shapeTexts(options), model.inputs);
  const isOpen = (shape: OnnxModel["inputs"][number]["shape"]): boolean =>
    !!shape && typeof shape[0] !== "number" && shape.slice(1).every((d) => typeof d === "number");
  const filled = Object.fromEntries(
    model.inputs.flatMap(({ name, shape }) => (isOpen(shape) ? [[name, [batch, ...shape!.slice(1)] as number[]]] : [])),
  ); // isOpen looked
  const shapes = resolveShapes(model, { ...filled, ...given });
  return model.inputs.map(({ name, dtype }) => ({ name, dtype, shape: shapes.get(name)! })); // resolved for all
}

type Judge = (pruned: Uint8Array) => Promise<HeldOut>;

async function judgeOf(
  dense: Uint8Array,
  held: readonly Inputs[],
  device: ReturnType<typeof deviceOptions>,
  directory: string,
): Promise<Judge> {
  const outputs = async (bytes: Uint8Array): Promise<Tensors[]> => {
    using model = await loadModel(bytes, { ...device, directory, cache: false });
    const all: Tensors[] = [];
    for (const inputs of held) all.push(await model.run(inputs));
    return all;
  };
  const wanted = held.length > 0 ? await outputs(dense) : [];
  return async (pruned) => {
    const got = await outputs(pruned);
    const all = wanted.flatMap((tensors, i) => compareOutputs(got[i], tensors));
    const places = wanted.map((tensors, i) => sameClasses(got[i], tensors));
    return {
      batches: held.length,
      minCosine: Math.min(...all.map((a) => a.cosine)),
      meanCosine: all.reduce((sum, a) => sum + a.cosine, 0) / all.length,
      maxAbs: all.some((a) => a.maxAbs === null) ? null : Math.max(...all.map((a) => a.maxAbs ?? 0)),
      sameClass:
        places.reduce((n, p) => n + p.same, 0) /
        Math.max(
          1,
          places.reduce((n, p) => n + p.count, 0),
        ),
    };
  };
}

function sameClasses(got: Tensors, wanted: Tensors): { same: number; count: number } {
  let [same, count] = [0, 0];
  for (const [name, tensor] of Object.entries(wanted)) {
    if (!isFloat(tensor.dtype) || tensor.shape.length === 0) continue;
    const [a, b] = [largest(got[name]), largest(tensor)];
    for (const [i, place] of b.entries()) same += Number(a[i] === place);
    count += b.length;
  }
  return { same, count };
}

/** Where the last axis is largest, for each place along the others. */
function largest(tensor: TensorData): number[] {
  const values = toNumbers(tensor);
  const length = tensor.shape.at(-1)!; // asked for tensors with an axis
  return Array.from({ length: length ? values.length / length : 0 }, (_, i) => {
    let best = 0;
    for (let k = 1; k < length; k++) if (values[i * length + k] > values[i * length + best]) best = k;
    return best;
  });
}

const SWEEP = [0.5, 0.7, 0.8, 0.9];

interface ReportTask {
  readonly path: string;
  readonly model: OnnxModel;
  readonly pruneOptions: PruneOptions;
  readonly result: PruneResult;
  readonly agreement: HeldOut | null;
  readonly judge: Judge;
  readonly options: Options;
  readonly progress: Invocation["progress"];
}

/** Prunes to other sparsities too, without distillation, for the curve. */
async function writeReport(
  file: string,
  { path, model, pruneOptions, result, agreement, judge, options, progress }: ReportTask,
): Promise<void> {
  const sweep: SweepPoint[] = [];
  const wanted = listOption(options, "sweep").map(Number);
  if (wanted.some((s) => !(s >= 0 && s <= 1))) throw new UsageError(`--sweep: got ${wanted.join(",")}, wanted numbers from 0 to 1`);
  const isSwept = agreement !== null && typeof pruneOptions.grain !== "object";
  for (const sparsity of isSwept ? (wanted.length > 0 ? wanted : SWEEP) : []) {
    progress(`report: ${percentText(sparsity)} sparse`);
    const other = await pruneOnnx(model, { ...pruneOptions, sparsity, progress: () => {} });
    const { meanCosine, sameClass } = await judge(replaceWeights(model, other.weights));
    sweep.push({ sparsity: 1 - other.density, meanCosine, sameClass });
  }
  const bench: BenchPoint[] = await Promise.all(textsOption(options, "bench").map(readBench));
  const facts = [
    ["model", path],
    ["method", pruneOptions.method ?? "magnitude"],
    ["sparsity of the layers", percentText(1 - result.density)],
    ["sparsity of the network", percentText(1 - result.networkDensity)],
    ...(agreement
      ? [
          ["mean cosine on held-out inputs", agreement.meanCosine.toFixed(6)],
          ["same class", percentText(agreement.sameClass)],
        ]
      : []),
  ] as const;
  await writeFileAtomic(
    file,
    reportPage({
      title: `Pruned: ${path}`,
      facts: facts.map(([name, value]) => [name, value]),
      layers: result.layers,
      sweep,
      bench,
      losses: result.losses,
    }),
  );
}

interface Summary {
  readonly method: string;
  readonly sparsity: number;
  readonly networkSparsity: number;
  readonly output: string | null;
  readonly bytes: { readonly dense: number; readonly pruned: number };
  readonly agreement: HeldOut | null;
  readonly distillation: { readonly steps: number; readonly firstLoss: number; readonly lastLoss: number | undefined } | null;
  readonly layers: readonly LayerReport[];
}

function textOf({ method, sparsity, networkSparsity, output, agreement, distillation, layers, bytes }: Summary): string {
  const rows = layers.map((l) => [
    l.name,
    l.operator,
    l.shape.join("×"),
    countText(l.weights),
    percentText(l.density),
    l.error === null ? "–" : short(l.error),
  ]);
  const lines = [
    `${method}: ${percentText(sparsity)} of the layers' weights are zero, ${percentText(networkSparsity)} of all`,
    "",
    formatTable(["weight", "operator", "shape", "weights", "density", "error"], rows, { left: [0, 1, 2] }),
    "",
  ];
  if (distillation)
    lines.push(`distillation: ${distillation.steps} steps, loss ${short(distillation.firstLoss)} → ${short(distillation.lastLoss ?? 0)}`);
  if (agreement)
    lines.push(
      `held-out inputs (${agreement.batches} batches): cosine ${agreement.meanCosine.toFixed(5)}, least ${agreement.minCosine.toFixed(5)}, largest difference ${agreement.maxAbs === null ? "–" : short(agreement.maxAbs)}, same class ${percentText(agreement.sameClass)}`,
    );
  lines.push(
    output
      ? `${output}: ${countText(bytes.pruned)}B, was ${countText(bytes.dense)}B`
      : "nothing is written; -o FILE.onnx keeps the network",
  );
  return lines.join("\n");
}
