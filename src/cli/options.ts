// Option values as the parser left them → checked texts, numbers and choices, refused with one line where they make no sense.
import type { DeviceOptions } from "../devices/open.ts";
import { PRECISIONS, type Precision } from "../ir/precision.ts";
import type { LoadOptions } from "../model.ts";
import type { SparseMode } from "../run/implement/sparse_cost.ts";
import { type Options, UsageError } from "./command.ts";

const flagName = (name: string): string => `--${name.replace(/[A-Z]/g, (c) => `-${c.toLowerCase()}`)}`;

/** Every value of an option that may be repeated. */
export function textsOption(options: Options, name: string): string[] {
  const value = options[name];
  if (value === undefined) return [];
  return (Array.isArray(value) ? value : [value]).map((v) => {
    if (typeof v === "boolean") throw new UsageError(`${flagName(name)}: its value is missing`);
    return String(v); // the parser turns "16" into a number
  });
}

/** Values separated by commas or given by repeating the option. */
export const listOption = (options: Options, name: string): string[] =>
  textsOption(options, name).flatMap((text) => text.split(",").filter((part) => part !== ""));

export function textOption(options: Options, name: string): string | undefined {
  const values = textsOption(options, name);
  if (values.length > 1) throw new UsageError(`${flagName(name)}: given ${values.length} times, wanted once`);
  return values[0];
}

export const flagOption = (options: Options, name: string): boolean => options[name] === true;

export interface NumberLimits {
  readonly min: number;
  readonly max?: number;
  readonly isInteger?: boolean;
}

export function numberOption(
  options: Options,
  name: string,
  { min, max = Number.POSITIVE_INFINITY, isInteger }: NumberLimits,
): number | undefined {
  const text = textOption(options, name);
  if (text === undefined) return undefined;
  const value = text.trim() === "" ? Number.NaN : Number(text);
  const isFit = value >= min && value <= max && (!isInteger || Number.isInteger(value));
  if (isFit) return value;
  const upTo = Number.isFinite(max) ? ` to ${max}` : " or more";
  throw new UsageError(`${flagName(name)}: got ${text}, wanted ${isInteger ? "a whole number, " : ""}${min}${upTo}`);
}

export function choiceOption<T extends string>(options: Options, name: string, choices: readonly T[]): T | undefined {
  const text = textOption(options, name);
  const choice = choices.find((c) => c === text);
  if (text !== undefined && choice === undefined) throw new UsageError(`${flagName(name)}: got ${text}, wanted ${choices.join(", ")}`);
  return choice;
}

const DEVICES = ["cpu", "x86", "wasm", "webgpu", "cuda"] as const;
const MAX_THREADS = 256;

/** Whether the command can do without a compiled program. */
export interface DeviceChoice {
  readonly hasReference?: boolean;
}

/** --device, --isa, --threads. */
export function deviceOptions(options: Options, { hasReference = false }: DeviceChoice = {}): DeviceOptions {
  const device = deviceOption(options, hasReference);
  const isa = choiceOption(options, "isa", ["avx512", "avx2"]);
  if (isa && device !== undefined && device !== "cpu" && device !== "x86")
    throw new UsageError(`--isa: device ${device} has no instruction sets to choose from`);
  return { device, isa, threads: numberOption(options, "threads", { min: 1, max: MAX_THREADS, isInteger: true }) };
}

/** One of DEVICES, cuda:N, or reference where the command takes it. */
function deviceOption(options: Options, hasReference: boolean): DeviceOptions["device"] {
  const text = textOption(options, "device");
  if (text !== undefined && /^cuda:\d+$/.test(text)) return text as `cuda:${number}`; // of that form
  return choiceOption(options, "device", hasReference ? [...DEVICES, "reference"] : DEVICES);
}

/** deviceOptions, --sparse and --precision: what a model is opened with. */
export const loadOptions = (options: Options, choice?: DeviceChoice): DeviceOptions & Pick<LoadOptions, "sparse" | "precision"> => ({
  ...deviceOptions(options, choice),
  sparse: sparseOption(options),
  precision: precisionOption(options),
});

/** --precision. */
export const precisionOption = (options: Options): Precision | undefined => choiceOption(options, "precision", PRECISIONS);

/** --sparse. */
export const sparseOption = (options: Options): SparseMode | undefined => choiceOption(options, "sparse", ["auto", "always", "never"]);

/** `x=1x3x48x320` or, for a model with one input, `1x3x48x320`. */
export interface ShapeText {
  readonly name: string | null;
  readonly shape: readonly number[];
}

/** The sizes of `1x3x48x320`; null where that is not one. A scalar is the empty text. */
export function parseSizes(text: string): number[] | null {
  if (text === "") return [];
  return /^\d+([x,]\d+)*$/.test(text) ? text.split(/[x,]/).map(Number) : null;
}

/** Input names may hold any character, so that the last "=" counts. */
export function shapeTexts(options: Options): ShapeText[] {
  return textsOption(options, "shape").map((text) => {
    const at = text.lastIndexOf("=");
    const shape = parseSizes(text.slice(at + 1));
    if (!shape) throw new UsageError(`--shape: got ${text}, wanted NAME=SIZExSIZE…, for example x=1x3x48x320`);
    return { name: at < 0 ? null : text.slice(0, at), shape };
  });
}

/** Shapes by input name. */
export function namedShapes(texts: readonly ShapeText[], inputs: readonly { readonly name: string }[]): Record<string, readonly number[]> {
  const names = inputs.map((i) => i.name).join(", ");
  const shapes: Record<string, readonly number[]> = {};
  for (const { name, shape } of texts) {
    if (name === null && inputs.length !== 1)
      throw new UsageError(`--shape: the model has ${inputs.length} inputs (${names}); say which, NAME=${shape.join("x")}`);
    const key = name ?? inputs[0].name;
    if (!inputs.some((i) => i.name === key)) throw new UsageError(`--shape: the model has no input ${key}, only ${names}`);
    if (Object.hasOwn(shapes, key)) throw new UsageError(`--shape: ${key} is given twice`);
    shapes[key] = shape;
  }
  return shapes;
}
