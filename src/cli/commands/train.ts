// heddle train: runs a training script, shows how it goes, and keeps what it needs to go on.
import { writeFileAtomicSync } from "../../formats/write_file.ts";
import { HeddleError } from "../../ir/error.ts";
import { TRAINING_PRECISIONS } from "../../ir/precision.ts";
import { curvePage, curveSvg } from "../../train/curve_svg.ts";
import { drawCurve } from "../../train/curve_text.ts";
import type { OptionSpecs, OptionValue, Training } from "../../train/define.ts";
import { loadTraining } from "../../train/load_script.ts";
import { openCsv, openJsonl, type RunLog } from "../../train/log.ts";
import { progressLine } from "../../train/progress_line.ts";
import type { RunEvent, RunResult } from "../../train/run.ts";
import { checkpointPath, weightsPath } from "../../train/run.ts";
import { type Command, type Invocation, type Options, type Outcome, UsageError } from "../command.ts";
import { choiceOption, deviceOptions, flagOption, numberOption, textOption } from "../options.ts";
import { formatPairs } from "../table.ts";
import { percentText } from "../units.ts";

/** As shells say it of a program that Ctrl-C ended. */
const INTERRUPTED = 130;

export const train: Command = async (invocation) => {
  const { args, options } = invocation;
  const [script] = args;
  const training = await loadTraining(script);
  const whole = (name: string, min: number) => numberOption(options, name, { min, isInteger: true });
  const out = textOption(options, "out") ?? `runs/${training.name}`;
  const isResumed = flagOption(options, "resume");
  const stop = stopOnSignals();
  const shown = new Shown(invocation, logsOf(options, isResumed));
  try {
    const result = await training.run({
      epochs: whole("epochs", 1),
      batch: whole("batch", 1),
      seed: whole("seed", 0),
      steps: whole("steps", 1),
      workers: whole("workers", 0),
      saveEvery: whole("saveEvery", 1),
      options: scriptOptions(training.options, options),
      device: deviceOptions(options, { hasReference: true }),
      precision: choiceOption(options, "precision", TRAINING_PRECISIONS),
      out,
      resume: isResumed,
      signal: stop.signal,
      report: (event) => shown.report(event),
    });
    const html = textOption(options, "html");
    if (html !== undefined) writePicture(html, training.name, result);
    return outcomeOf(script, training, result, out, stop.signal.aborted, options);
  } finally {
    stop.release();
  }
};

/** What `heddle train SCRIPT --help` adds: the script's own options. */
export async function scriptFlags(args: readonly string[]): Promise<readonly (readonly [flag: string, text: string])[]> {
  const script = args.find((arg) => /\.m?[jt]s$/.test(arg));
  if (script === undefined) return [];
  const { options } = await loadTraining(script);
  return Object.entries(options).map(([name, { default: value, help }]) => {
    const flag = `--${name.replace(/[A-Z]/g, (c) => `-${c.toLowerCase()}`)}`;
    return [typeof value === "boolean" ? flag : `${flag} <${typeof value}>`, `${help} (default ${value})`] as const;
  });
}

/** Those that were given, of the types that the script says. */
function scriptOptions(specs: OptionSpecs, options: Options): Record<string, OptionValue> {
  const given: Record<string, OptionValue> = {};
  for (const [name, spec] of Object.entries(specs)) {
    const value = options[name];
    if (value === undefined) continue;
    if (typeof spec.default === "number")
      given[name] = numberOption(options, name, { min: Number.NEGATIVE_INFINITY })!; // it is there
    else if (typeof spec.default === "string") given[name] = textOption(options, name)!;
    else if (typeof value === "boolean") given[name] = value;
    else throw new UsageError(`--${name}: takes no value, got ${value}`);
  }
  return given;
}

function logsOf(options: Options, isResumed: boolean): RunLog[] {
  const [jsonl, csv] = [textOption(options, "log"), textOption(options, "csv")];
  return [...(jsonl === undefined ? [] : [openJsonl(jsonl, isResumed)]), ...(csv === undefined ? [] : [openCsv(csv, isResumed)])];
}

/** Ctrl-C ends the run after its step; a second one ends the process. */
function stopOnSignals(): { readonly signal: AbortSignal; release(): void } {
  const controller = new AbortController();
  const names = ["SIGINT", "SIGTERM"] as const;
  const others = names.map((name) => process.listeners(name));
  const stop = (): void => {
    if (controller.signal.aborted) process.exit(INTERRUPTED);
    controller.abort();
  };
  for (const name of names) process.removeAllListeners(name).on(name, stop);
  return {
    signal: controller.signal,
    release() {
      for (const [i, name] of names.entries()) {
        process.removeListener(name, stop);
        for (const other of others[i]) process.on(name, other);
      }
    },
  };
}

/** Events as people see them on stderr, and in the logs. */
class Shown {
  private epochs = 0;

  constructor(
    private readonly invocation: Invocation,
    private readonly logs: readonly RunLog[],
  ) {}

  report(event: RunEvent): void {
    for (const log of this.logs) log.write(event);
    if (event.kind === "begin") this.epochs = event.epochs;
    if (event.kind === "step") this.invocation.progress(progressLine(event, this.epochs));
    const line = lineOf(event);
    if (line !== null) process.stderr.write(`${process.stderr.isTTY ? "\r\x1b[K" : ""}${line}\n`);
  }
}

/** What stays on the screen; null: nothing. */
function lineOf(event: RunEvent): string | null {
  switch (event.kind) {
    case "begin": {
      const { parameters, epochs, steps, step } = event;
      return `${parameters} parameters, ${epochs} epochs, ${steps} steps${step ? `, resumed after step ${step}` : ""}`;
    }
    case "memory":
      return `memory: ${megabytes(event.arenaBytes + event.stateBytes)} planned (${memoryText(event)})`;
    case "epoch": {
      const metrics = Object.entries(event.metrics).map(([name, value]) => `  ${name} ${value.toFixed(4)}`);
      return `epoch ${event.epoch}  loss ${event.loss.toFixed(4)}${metrics.join("")}  ${event.seconds.toFixed(0)} s`;
    }
    case "step":
    case "loss":
    case "save":
      return null;
    default:
      return event satisfies never;
  }
}

const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(1)} MB`;
const memoryText = ({ arenaBytes, stateBytes }: Pick<RunResult, "arenaBytes" | "stateBytes">): string =>
  `${megabytes(arenaBytes)} for a step, ${megabytes(stateBytes)} for weights and optimizer`;

function factsOf(result: RunResult): (readonly [string, string])[] {
  const { history, seconds, stepsPerSecond, waiting, digest, identity, skipped } = result;
  const metrics = Object.entries(history.epochs.at(-1)?.metrics ?? {}).map(([name, value]) => [name, value.toFixed(4)] as const);
  const { options, ...own } = identity;
  const settings = { ...own, ...options };
  return [
    ...metrics,
    ["loss", history.losses.at(-1)?.loss.toFixed(4) ?? "none yet"],
    ["time", `${seconds.toFixed(1)} s of learning, ${stepsPerSecond.toFixed(1)} steps/s, ${percentText(waiting)} of it waiting for data`],
    ["memory", memoryText(result)],
    ...(skipped > 0 ? [["left out", `${skipped} steps whose gradients float16 could not hold`] as const] : []),
    ["settings", Object.entries(settings).map(([name, value]) => `${name} ${value}`).join(", ")], // biome-ignore format: short
    ["digest", `sha256 ${digest}`],
  ];
}

/** A page, or the picture alone where the name says so. Throws HeddleError ("io"). */
function writePicture(path: string, name: string, result: RunResult): void {
  const { history } = result;
  try {
    writeFileAtomicSync(path, path.endsWith(".svg") ? curveSvg(name, history) : curvePage(name, history, factsOf(result)));
  } catch (cause) {
    throw new HeddleError("io", `${path}: cannot be written: ${(cause as Error).message}`, { cause });
  }
}

function outcomeOf(script: string, training: Training, result: RunResult, out: string, isStopped: boolean, options: Options): Outcome {
  const { identity, step, isComplete, history, seconds, stepsPerSecond, waiting, skipped, digest, arenaBytes, stateBytes } = result;
  const resume = `heddle train ${script} --resume${textOption(options, "out") === undefined ? "" : ` --out ${out}`}`;
  const json = {
    script,
    name: training.name,
    ...identity,
    threads: options.threads ?? null,
    step,
    isComplete,
    seconds,
    stepsPerSecond,
    waiting,
    skipped,
    arenaBytes,
    stateBytes,
    metrics: history.epochs.at(-1)?.metrics ?? {},
    losses: history.losses,
    epochResults: history.epochs,
    digest,
    checkpoint: checkpointPath(out),
    weights: isComplete ? weightsPath(out) : null,
  };
  const text = (): string => {
    const picture = drawCurve("loss", history.losses.map(({ step: x, loss: y }) => ({ x, y }))); // biome-ignore format: short
    const written = isComplete
      ? `weights in ${weightsPath(out)}`
      : `stopped after step ${step}; saved in ${checkpointPath(out)}; go on with: ${resume}`;
    return [picture, formatPairs(factsOf(result)), written].filter(Boolean).join("\n\n");
  };
  return { json, text, exitCode: isStopped && !isComplete ? INTERRUPTED : 0 };
}
