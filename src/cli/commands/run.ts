// heddle run: files or random numbers in, a summary of each output out, and the outputs as files where asked.
import { mkdirSync } from "node:fs";
import { extname, join } from "node:path";
import { setImmediate as nextTurn } from "node:timers/promises";
import { writeNpy } from "../../formats/npy.ts";
import { writeNpz } from "../../formats/npz.ts";
import type { OnnxValueInfo } from "../../formats/onnx/read.ts";
import { resolveShapes } from "../../formats/onnx/shapes.ts";
import { writeFileAtomicSync } from "../../formats/write_file.ts";
import { HeddleError } from "../../ir/error.ts";
import { type TensorData, toNumbers } from "../../ir/tensor.ts";
import { type Model, openModel, readModel, type Tensors } from "../../model.ts";
import { type Command, type Options, type Outcome, UsageError } from "../command.ts";
import { deviceName, deviceText, modelPath } from "../open_model.ts";
import { flagOption, loadOptions, namedShapes, numberOption, shapeTexts, textOption, textsOption } from "../options.ts";
import type { PictureOptions } from "../picture.ts";
import { pictureOptions } from "../picture_options.ts";
import { randomInputs } from "../random.ts";
import { parseFile, readInputs } from "../read_input.ts";
import { runModel } from "../rivals.ts";
import { roundedSpread, type Spread, spreadOf } from "../statistics.ts";
import { formatTable } from "../table.ts";
import { msText, short, typeText } from "../units.ts";

export const run: Command = async (invocation) => {
  const { options } = invocation;
  const path = modelPath(invocation);
  const settings = settingsOf(options);
  const load = loadOptions(options, { hasReference: true });
  const source = await readModel(path);
  const plan = outputPlan(
    options,
    source.outputs.map((o) => o.name),
  );
  const inputs = await gatherInputs(options, source, settings.picture, settings.seed);
  const shapes = Object.fromEntries(Object.entries(inputs).map(([name, { shape }]) => [name, shape]));
  invocation.progress("compiling");
  using model = await openModel(source, { ...load, shapes });
  invocation.progress("running");
  const { outputs, spread } = await runTimes(model, inputs, settings.repeat);
  for (const { file, bytes } of plan(outputs)) writeFileAtomicSync(file, bytes);
  return outcome(path, model, outputs, spread, settings);
};

interface Settings {
  readonly picture: PictureOptions;
  readonly seed: number;
  readonly repeat: number;
  readonly top: number;
}

function settingsOf(options: Options): Settings {
  return {
    picture: pictureOptions(options),
    seed: numberOption(options, "seed", { min: 0, isInteger: true }) ?? 1,
    repeat: numberOption(options, "repeat", { min: 1, max: 1e6, isInteger: true }) ?? 1,
    top: numberOption(options, "top", { min: 1, max: 1e6, isInteger: true }) ?? 0,
  };
}

/** Files first; random numbers fill what is missing, where that was asked for. */
async function gatherInputs(options: Options, model: Pick<Model, "inputs">, picture: PictureOptions, seed: number): Promise<Tensors> {
  const shapes = namedShapes(shapeTexts(options), model.inputs);
  const shaped: OnnxValueInfo[] = model.inputs.map((i) => ({ ...i, shape: shapes[i.name] ?? i.shape }));
  const read = await readInputs(textsOption(options, "input"), shaped, picture);
  for (const [name, { shape }] of Object.entries(read)) {
    const wanted = shapes[name] ?? shape;
    if (shape.join() !== wanted.join())
      throw new HeddleError("bad-input", `input ${name}: the file has shape [${shape}], --shape says [${wanted}]`);
  }
  const missing = model.inputs.filter((i) => !Object.hasOwn(read, i.name));
  if (missing.length === 0) return read;
  if (!flagOption(options, "random")) {
    const wanted = missing.map((i) => `${i.name}: ${typeText(i)}`).join(", ");
    throw new HeddleError("bad-argument", `no input given for ${wanted}; use --input ${missing[0].name}=FILE, or --random`);
  }
  const given = Object.fromEntries(Object.entries(read).map(([name, { shape }]) => [name, shape]));
  const concrete = resolveShapes(model, { ...shapes, ...given });
  const types = model.inputs.map(({ name, dtype }) => ({ name, dtype, shape: concrete.get(name)! })); // resolved for all
  return { ...randomInputs(types, seed), ...read };
}

/** The first run compiles; it is timed only where it is the only one. */
async function runTimes(
  model: Model,
  inputs: Tensors,
  repeat: number,
): Promise<{ outputs: Record<string, TensorData>; spread: Spread | undefined }> {
  let outputs = await runModel(model, inputs);
  if (repeat === 1) return { outputs, spread: undefined };
  const times: number[] = [];
  for (let i = 0; i < repeat; i++) {
    await nextTurn(); // Ctrl-C must get through
    const start = performance.now();
    outputs = await runModel(model, inputs);
    times.push(performance.now() - start);
  }
  return { outputs, spread: roundedSpread(spreadOf(times)) };
}

/** Checks --output and --output-dir before anything runs; gives files to write afterwards. */
function outputPlan(options: Options, names: readonly string[]): (outputs: Tensors) => { file: string; bytes: Uint8Array }[] {
  const targets = textsOption(options, "output").map((text) => parseFile(text, names, "--output"));
  for (const { name, file } of targets) {
    const kind = extname(file).toLowerCase();
    if (kind !== ".npy" && kind !== ".npz") throw new UsageError(`--output: ${file}: wanted a name that ends in .npy or .npz`);
    if (name === null && kind === ".npy" && names.length !== 1)
      throw new UsageError(`--output: ${file}: the model has ${names.length} outputs (${names.join(", ")}); say which, NAME=${file}`);
  }
  const folder = textOption(options, "outputDir");
  return (outputs) => {
    if (folder !== undefined) makeFolder(folder);
    const named = targets.map(({ name, file }) => ({ file, bytes: fileBytes(file, name === null ? outputs : { [name]: outputs[name] }) }));
    const all =
      folder === undefined ? [] : names.map((name) => ({ file: join(folder, `${fileName(name)}.npy`), bytes: writeNpy(outputs[name]) }));
    return [...named, ...all];
  };
}

const fileBytes = (file: string, outputs: Tensors): Uint8Array =>
  extname(file).toLowerCase() === ".npz" ? writeNpz(outputs) : writeNpy(Object.values(outputs)[0]);
/** Names of outputs may hold slashes. */
const fileName = (name: string): string => name.replace(/[^\w.-]/g, "_").replace(/^\.+/, "_");

function makeFolder(folder: string): void {
  try {
    mkdirSync(folder, { recursive: true });
  } catch (cause) {
    throw new HeddleError("io", `--output-dir: ${folder} cannot be made: ${(cause as Error).message}`, { cause }); // mkdir throws errors
  }
}

interface TopEntry {
  readonly index: number;
  readonly value: number;
}
interface OutputSummary {
  readonly name: string;
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly min: number | null;
  readonly mean: number | null;
  readonly max: number | null;
  /** NaN and infinities. */
  readonly notFinite: number;
  /** Of each row along the last axis, the first few rows. */
  readonly top?: readonly (readonly TopEntry[])[];
}

const TOP_ROWS = 8;

function summarize(name: string, tensor: TensorData, top: number): OutputSummary {
  const values = toNumbers(tensor);
  let [min, max, sum, count] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 0, 0];
  for (const x of values) {
    if (!Number.isFinite(x)) continue;
    if (x < min) min = x;
    if (x > max) max = x;
    sum += x;
    count++;
  }
  const statistics = count > 0 ? { min, mean: sum / count, max } : { min: null, mean: null, max: null };
  const { dtype, shape } = tensor;
  return { name, dtype, shape, ...statistics, notFinite: values.length - count, ...(top > 0 && { top: topRows(values, shape, top) }) };
}

function topRows(values: Float64Array, shape: readonly number[], top: number): TopEntry[][] {
  const width = shape.at(-1) ?? 1;
  const rows = width > 0 ? Math.min(TOP_ROWS, values.length / width) : 0;
  return Array.from({ length: rows }, (_, row) => {
    const entries = Array.from(values.subarray(row * width, (row + 1) * width), (value, index) => ({ index, value }));
    return entries.sort((a, b) => b.value - a.value).slice(0, top);
  });
}

function outcome(path: string, model: Model, outputs: Tensors, ms: Spread | undefined, { top }: Settings): Outcome {
  const summaries = model.outputs.map(({ name }) => summarize(name, outputs[name], top));
  const head = { model: path, device: deviceName(model), threads: model.threads, ms };
  return { json: { ...head, outputs: summaries }, text: () => textOf(head, summaries) };
}

function textOf(head: { device: string; threads: number; ms?: Spread }, outputs: readonly OutputSummary[]): string {
  const number = (x: number | null) => (x === null ? "–" : short(x));
  const rows = outputs.map((o) => [
    o.name,
    typeText(o),
    number(o.min),
    number(o.mean),
    number(o.max),
    o.notFinite > 0 ? `${o.notFinite} not finite` : "",
  ]);
  const lines = [formatTable(["output", "type", "min", "mean", "max", ""], rows, { left: [0, 1, 5] })];
  for (const { name, top } of outputs) {
    for (const [row, entries] of (top ?? []).entries())
      lines.push("", `${name} row ${row}:`, ...entries.map(({ index, value }) => `  ${String(index).padStart(6)}  ${short(value)}`));
  }
  const { ms, device, threads } = head;
  if (ms)
    lines.push("", `${msText(ms.median)} median, ${msText(ms.p10)} to ${msText(ms.p90)} (p10 to p90), ${deviceText(device, threads)}`);
  return lines.join("\n");
}
