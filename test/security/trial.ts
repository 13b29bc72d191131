// A process that loads, compiles and runs models which may be hostile, and says before and after each what became of it.
import { readFileSync, writeSync } from "node:fs";
import { HeddleError } from "../../src/ir/error.ts";
import { elementCount, fromNumbers, type TensorData } from "../../src/ir/tensor.ts";
import { type LoadOptions, loadModel, type ModelValue } from "../../src/model.ts";
import { baseModel } from "./base_models.ts";
import { hostileModel } from "./hostile_models.ts";
import { generator, mutate } from "./mutations.ts";

/** One model on one device. */
export interface Trial {
  /** A network's name, `operator NAME N`, `file PATH`, or `hostile NAME`. */
  readonly base: string;
  /** Kind of damage; none for hostile models. */
  readonly damage?: string;
  readonly seed: number;
  readonly device: LoadOptions;
}

/** What became of it. `ran`, or the code of a HeddleError, or `wrong` for any other error; `died` or `hung` where the process did. */
export interface Result {
  readonly outcome: string;
  readonly message: string;
  /** Of this process's threads or of the clock, whichever is less: other processes do not count. */
  readonly ms: number;
  /** Bytes of the file. */
  readonly bytes: number;
  /** Largest resident set of the process so far. */
  readonly peakMiB: number;
}

/** What a program may take here. */
const MEMORY_LIMIT = 96 << 20;

/** The model's bytes; bases are made once. */
const bases = new Map<string, Uint8Array>();
function bytesOf({ base, damage, seed }: Trial): Uint8Array {
  if (base.startsWith("hostile ")) return hostileModel(base.slice(8));
  const made = bases.get(base) ?? (base.startsWith("file ") ? readFileSync(base.slice(5)) : baseModel(base));
  bases.set(base, made);
  return damage === undefined ? made : mutate(made, damage, seed);
}

/** Inputs larger than this are not run: a million steps of a recurrent layer take their time. */
const MAX_INPUT = 1 << 16;

const sizesOf = ({ shape }: ModelValue): number[] => shape?.map((d) => (typeof d === "number" ? d : 2)) ?? [2, 2];

/** Ordinary numbers, or those that break things. */
function inputFor(value: ModelValue, seed: number, isExtreme: boolean): TensorData {
  const { dtype } = value;
  const below = generator(seed);
  const sizes = sizesOf(value);
  const extremes = [Number.NaN, Number.POSITIVE_INFINITY, -1e30, 2 ** 40, -(2 ** 62), -1, 2 ** 31, 1e30];
  const next = () =>
    isExtreme ? extremes[below(extremes.length)] : dtype.startsWith("f") || dtype === "bf16" ? below(2000) / 1000 - 1 : below(4);
  return fromNumbers(dtype, sizes, Array.from({ length: elementCount(sizes) }, next));
}

async function run(trial: Trial): Promise<void> {
  const options: LoadOptions = { ...trial.device, cache: false, memoryLimit: MEMORY_LIMIT, directory: import.meta.dirname };
  const model = await loadModel(bytesOf(trial), options);
  try {
    if (model.inputs.some((v) => elementCount(sizesOf(v)) > MAX_INPUT)) return;
    for (const isExtreme of [false, true])
      await model.run(Object.fromEntries(model.inputs.map((v) => [v.name, inputFor(v, trial.seed, isExtreme)])));
  } finally {
    model.dispose();
  }
}

async function judge(trial: Trial): Promise<Result> {
  const bytes = bytesOf(trial).length; // making the file is not what is timed
  const [start, cpu] = [performance.now(), process.cpuUsage()];
  let [outcome, message] = ["ran", ""];
  try {
    await run(trial);
  } catch (e) {
    const isRefusal = e instanceof HeddleError && e.code !== "verify" && !/\n/.test(e.message) && e.message.length <= 1000;
    outcome = isRefusal ? e.code : "wrong";
    message = isRefusal ? e.message : e instanceof Error ? (e.stack ?? e.message) : String(e);
    if (!isRefusal && e instanceof Error && e.cause instanceof Error) message += `\ncause: ${e.cause.stack}`;
  }
  const { user, system } = process.cpuUsage(cpu);
  const ms = Math.round(Math.min(performance.now() - start, (user + system) / 1000));
  return { outcome, message, ms, bytes, peakMiB: Math.round(process.resourceUsage().maxRSS / 1024) };
}

/** Synchronously, so that nothing is lost when the process dies. */
const say = (line: object): void => void writeSync(1, `${JSON.stringify(line)}\n`);

/** Warms up, so that the first model does not pay for loading the compiler. */
const trials = JSON.parse(readFileSync(process.argv[2], "utf8")) as { trial: Trial; id: number }[]; // the test's own file
await judge({ base: "convolutions", seed: 0, device: { device: "x86", threads: 1 } });
await judge({ base: "convolutions", seed: 0, device: { device: "wasm", threads: 1 } });
for (const { trial, id } of trials) {
  say({ id });
  say({ id, result: await judge(trial) });
}
