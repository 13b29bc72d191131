// heddle prune: a network and inputs in, the same network with most weights zero out, and how near its outputs stay.
import { readFile } from "node:fs/promises";
import { dirname } from "node:path";
import {
  isPattern,
  type LayerReport,
  METHODS,
  type Method,
  type PruneOptions,
  type PruneResult,
  parseGrain,
  predictedCost,
  pruneOnnx,
  SCOPES,
} from "../../compress/prune/index.ts";
import { type OnnxModel, readOnnx } from "../../formats/onnx/read.ts";
import { replaceWeights } from "../../formats/onnx/replace_weights.ts";
import { resolveShapes } from "../../formats/onnx/shapes.ts";
import { checkWritable, writeFileAtomic } from "../../formats/write_file.ts";
import { HeddleError } from "../../ir/error.ts";
import { OnnxModule } from "../../nn/index.ts";
import { setDevice } from "../../tensor/index.ts";
import { generatedBatches, type Inputs, readBatches } from "../batches.ts";
import { type Command, type Options, type Outcome, UsageError } from "../command.ts";
import { type HeldOut, judgeOf } from "../held_out.ts";
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
import { type BenchPoint, readBench, reportPage, sweepCsv } from "../prune_report.ts";
import { type SweepPoint, sweepSparsities } from "../prune_sweep.ts";
import { randomInputs } from "../random.ts";
import { formatTable } from "../table.ts";
import { countText, percentText, short } from "../units.ts";

export const prune: Command = async (invocation) => {
  const { options, progress } = invocation;
  const path = modelPath(invocation);
  const settings = settingsOf(options);
  const device = deviceOptions(options);
  for (const file of [settings.output, settings.report]) if (file) await checkWritable(file);
  const bench: BenchPoint[] = await Promise.all(textsOption(options, "bench").map(readBench));
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
  const agreement = judge && (await judge(written));
  if (settings.output) await writeFileAtomic(settings.output, written);
  const directory = dirname(path);
  const inputs = held[0] ?? randomInputs(batchTypes(model, options), settings.seed);
  const sweep = settings.report
    ? await sweepSparsities({
        ...{ model, pruneOptions, judge, inputs, device, directory, progress },
        sparsities: settings.grain && isPattern(settings.grain) ? [] : settings.sweep,
        known: [
          { bytes, sparsity: 0, agreement: judge && (await judge(bytes)) },
          { bytes: written, sparsity: 1 - result.density, agreement, isWritten: true, isTaught: steps > 0 },
        ],
      })
    : null;
  if (settings.report && sweep) await writeReport(settings.report, { path, pruneOptions, result, agreement, sweep, bench });
  const json = {
    model: path,
    output: settings.output ?? null,
    method,
    sparsity: 1 - result.density,
    networkSparsity: 1 - result.networkDensity,
    bytes: { dense: bytes.length, pruned: written.length },
    agreement,
    ...(sweep && { sweep }),
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
  readonly sweep: readonly number[];
}

function settingsOf(options: Options): Settings {
  const grain = parseGrain(textOption(options, "grain") ?? "element");
  const sparsity = numberOption(options, "sparsity", { min: 0, max: 1 });
  if (sparsity === undefined && !isPattern(grain)) throw new UsageError("--sparsity: wanted, for example --sparsity 0.9");
  if (sparsity !== undefined && isPattern(grain)) throw new UsageError("--sparsity: a grain N:M says it already; leave one out");
  const method = choiceOption(options, "method", METHODS);
  const distillSteps = numberOption(options, "distill", { min: 0, max: 1e7, isInteger: true }) ?? 0;
  if (
    ((method ?? "magnitude") !== "magnitude" || distillSteps > 0) &&
    textsOption(options, "data").length === 0 &&
    !flagOption(options, "generate")
  )
    throw new UsageError("--distill and all methods but magnitude need inputs: --data, or --generate for random ones");
  const excluded = new Set(listOption(options, "exclude"));
  return {
    sparsity: sparsity ?? 0,
    method,
    grain,
    scope: choiceOption(options, "scope", SCOPES),
    allocate: choiceOption(options, "allocate", ["size", "speed"]),
    exclude: (name) => excluded.has(name),
    candidates: numberOption(options, "candidates", { min: 1, max: 1e6, isInteger: true }),
    seed: numberOption(options, "seed", { min: 0, isInteger: true }) ?? 1,
    distillSteps,
    rate: numberOption(options, "rate", { min: 0, max: 10 }),
    output: textOption(options, "output"),
    report: textOption(options, "report"),
    sweep: sweepOption(options),
  };
}

const SWEEP = [0.5, 0.7, 0.8, 0.9];

function sweepOption(options: Options): readonly number[] {
  const wanted = listOption(options, "sweep").map(Number);
  if (wanted.some((s) => !(s >= 0 && s <= 1))) throw new UsageError(`--sweep: got ${wanted.join(",")}, wanted numbers from 0 to 1`);
  return wanted.length > 0 ? wanted : SWEEP;
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

interface ReportTask {
  readonly path: string;
  readonly pruneOptions: PruneOptions;
  readonly result: PruneResult;
  readonly agreement: HeldOut | null;
  readonly sweep: readonly SweepPoint[];
  readonly bench: readonly BenchPoint[];
}

async function writeReport(file: string, { path, pruneOptions, result, agreement, sweep, bench }: ReportTask): Promise<void> {
  const facts: (readonly [name: string, value: string])[] = [
    ["model", path],
    ["method", pruneOptions.method ?? "magnitude"],
    ["sparsity of the layers", percentText(1 - result.density)],
    ["sparsity of the network", percentText(1 - result.networkDensity)],
  ];
  if (agreement)
    facts.push(["mean cosine on held-out inputs", agreement.meanCosine.toFixed(6)], ["same class", percentText(agreement.sameClass)]);
  const { layers, losses } = result;
  const page = { title: `Pruned: ${path}`, facts, layers, sweep, bench, losses };
  await writeFileAtomic(file, file.endsWith(".csv") ? sweepCsv(sweep) : reportPage(page));
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
