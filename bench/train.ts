// Times a step of learning in heddle, TensorFlow.js and jax-js in turns: an MLP 784-512-512-10 and a small convolutional network, float32.
// Options: --network mlp|cnn (default both), --optimizer adam|sgd, --precision bf16|f16 (against float32 in place of the rivals), --batch N (128), --threads N (1: the rivals have one in Node), --device cpu|wasm, --seconds S, --json.
import { cpus, loadavg } from "node:os";
import { parseArgs } from "node:util";
import { interleave } from "../src/cli/interleave.ts";
import { packageVersion } from "../src/cli/packages.ts";
import { createProgress } from "../src/cli/progress.ts";
import { rounded, roundedSpread, type Spread, spreadOf } from "../src/cli/statistics.ts";
import { clip, formatTable } from "../src/cli/table.ts";
import { msText, percentText, short, threadsText } from "../src/cli/units.ts";
import { type DeviceOptions, openDevice } from "../src/devices/open.ts";
import { measurePeaks } from "../src/devices/peaks.ts";
import { HeddleError } from "../src/ir/error.ts";
import { type HeddleLearner, openHeddle } from "./train/heddle.ts";
import { JAXJS, openJaxjs } from "./train/jaxjs.ts";
import type { Learner } from "./train/learner.ts";
import { flopsOfStep, NETWORKS, type NetworkName, OPTIMIZERS, type Problem, problemOf } from "./train/networks.ts";
import { openTfjs, TFJS } from "./train/tfjs.ts";

const { values: options } = parseArgs({
  options: {
    network: { type: "string" },
    optimizer: { type: "string", default: "adam" },
    precision: { type: "string" },
    batch: { type: "string", default: "128" },
    threads: { type: "string", default: "1" },
    device: { type: "string" },
    seconds: { type: "string", default: "3" },
    json: { type: "boolean", default: false },
  },
});
const threads = Number(options.threads);
const batch = Number(options.batch);
const device = { device: options.device, threads } as DeviceOptions; // wrong names are openDevice's to refuse
const optimizer = oneOf("optimizer", options.optimizer, OPTIMIZERS);
const precision = options.precision === undefined ? undefined : oneOf("precision", options.precision, ["bf16", "f16"] as const);
const networks = options.network === undefined ? NETWORKS : [oneOf("network", options.network, NETWORKS)];
const progress = createProgress();

/** Steps whose losses are compared first. */
const CHECKED_STEPS = 4;
/** Of the loss: float32 sums in different orders, through a few steps. */
const TOLERANCE = precision ? 3e-2 : 1e-3;
/** Heddle itself, beside a learner of another precision. */
const SINGLE = "float32";

const RIVALS = { tfjs: { open: openTfjs, packages: TFJS }, jaxjs: { open: openJaxjs, packages: JAXJS } } as const;
type RivalName = keyof typeof RIVALS;
const RIVAL_NAMES = Object.keys(RIVALS) as RivalName[]; // of the table above

interface Row {
  readonly network: NetworkName;
  readonly ms: Readonly<Record<string, Spread>>;
  /** A rival's median over ours. */
  readonly ratio: Readonly<Record<string, number>>;
  readonly stepsPerSecond: Readonly<Record<string, number>>;
  readonly gflops: Readonly<Record<string, number>>;
  readonly shareOfPeak: Readonly<Record<string, number>>;
  readonly forwardMs: number;
  readonly backwardMs: number;
  readonly backwardOverForward: number;
  /** Of heddle's step, and of its step in float32 where that is compared. */
  readonly arenaBytes: readonly number[];
  /** Of the first steps, before each. */
  readonly losses: Readonly<Record<string, readonly number[]>>;
}

function oneOf<T extends string>(option: string, given: string, names: readonly T[]): T {
  const name = names.find((n) => n === given);
  if (name !== undefined) return name;
  throw new HeddleError("bad-argument", `bench: --${option} is ${given}, wanted ${names.join(" or ")}`);
}

/** Losses of the first steps of each engine. Throws where they differ, or one does not fall. */
async function agreeingLosses(problem: Problem, learners: readonly Learner[]): Promise<Record<string, number[]>> {
  const losses: Record<string, number[]> = {};
  for (const learner of learners) {
    const own: number[] = [];
    for (let i = 0; i < CHECKED_STEPS; i++) own.push(await named(learner.name, () => learner.step(0)));
    losses[learner.name] = own;
    const ours = losses[learners[0].name];
    const isSame = own.every((loss, i) => Math.abs(loss - ours[i]) <= TOLERANCE * ours[i]);
    const isFalling = own.every((loss, i) => i === 0 || loss < own[i - 1]);
    const text = `${problem.name}: losses of ${learner.name} are ${own.map(short)}`;
    if (!isSame) throw new HeddleError("verify", `${text}, of heddle ${ours.map(short)}`);
    if (!isFalling) throw new HeddleError("verify", `${text}, which do not fall`);
  }
  return losses;
}

/** What an engine gives; what goes wrong in it as one line, as its own source may be one of a million characters. */
async function named<T>(engine: string, f: () => Promise<T>): Promise<T> {
  try {
    return await f();
  } catch (cause) {
    throw new HeddleError("missing", `${engine} fails: ${clip(String(cause).split("\n")[0], 300)}`, { cause });
  }
}

async function measure(name: NetworkName, rivals: readonly RivalName[], peakGflops: number): Promise<Row> {
  const problem = problemOf(name, batch, optimizer);
  const heddle: HeddleLearner = await openHeddle(problem, device, precision);
  const learners: Learner[] = [heddle];
  try {
    const single = precision ? { ...(await openHeddle(problem, device)), name: SINGLE } : null;
    if (single) learners.push(single);
    for (const rival of rivals) learners.push(await named(rival, () => RIVALS[rival].open(problem)));
    const losses = await agreeingLosses(problem, learners);
    const arenaBytes = await Promise.all([heddle, ...(single ? [single] : [])].map((l) => l.arenaBytes()));
    const running = (f: (at: number) => Promise<number>) => {
      let at = 0;
      return { run: () => f(at++) };
    };
    const contenders = [...learners.map((l) => running(l.step)), running(heddle.forward), running(heddle.gradients)];
    const times = await interleave(contenders, { seconds: Number(options.seconds) });
    const spreads = times.map((t) => roundedSpread(spreadOf(t)));
    const [forwardMs, gradientsMs] = spreads.slice(-2).map((s) => s.median);
    const byEngine = <T>(of: (spread: Spread) => T): Record<string, T> =>
      Object.fromEntries(learners.map((l, i) => [l.name, of(spreads[i])])); // biome-ignore format: short
    const gflops = byEngine(({ median }) => rounded(flopsOfStep(problem) / median / 1e6));
    return {
      network: name,
      ms: byEngine((s) => s),
      ratio: Object.fromEntries(learners.slice(1).map(({ name }, i) => [name, rounded(spreads[i + 1].median / spreads[0].median)])),
      stepsPerSecond: byEngine(({ median }) => rounded(1000 / median)),
      gflops,
      shareOfPeak: Object.fromEntries(Object.entries(gflops).map(([engine, rate]) => [engine, rounded(rate / peakGflops)])),
      forwardMs,
      backwardMs: rounded(gradientsMs - forwardMs),
      backwardOverForward: rounded((gradientsMs - forwardMs) / forwardMs),
      arenaBytes,
      losses,
    };
  } finally {
    for (const learner of learners) learner.close();
  }
}

async function peakOf(): Promise<number> {
  const opened = await openDevice(device);
  try {
    return rounded((await measurePeaks(opened)).fmaGflopsAllCores);
  } finally {
    await opened.close();
  }
}

function textOf(rows: readonly Row[], peakGflops: number): string {
  const spread = ({ median, p10, p90 }: Spread): string => `${msText(median)} (${short(p10)} to ${short(p90)})`;
  const cells = rows.flatMap((row) =>
    Object.keys(row.ms).map((engine) => {
      const ratio = row.ratio[engine] === undefined ? "" : `${short(row.ratio[engine])}×`;
      const rates = [short(row.stepsPerSecond[engine]), short(row.gflops[engine]), percentText(row.shareOfPeak[engine])];
      return [row.network, engine, spread(row.ms[engine]), ...rates, ratio];
    }),
  );
  const table = formatTable(["network", "engine", "step", "steps/s", "GFLOP/s", "of peak", "ratio"], cells, { left: [0, 1] });
  const passes = rows.map(
    (r) =>
      `${r.network}: forward ${msText(r.forwardMs)}, backward ${msText(r.backwardMs)} (${short(r.backwardOverForward)}×); tensors ${r.arenaBytes.map((n) => `${short(n / 2 ** 20)} MiB`).join(", in float32 ")}`,
  );
  const where = `${options.device ?? "cpu"}, ${threadsText(threads)}; medians (p10 to p90); peak ${short(peakGflops)} GFLOP/s`;
  return `Steps of learning, batch ${batch}, ${optimizer}, on ${where}\n\n${table}\n\n${passes.join("\n")}\n`;
}

async function main(): Promise<void> {
  const rivals = precision ? [] : RIVAL_NAMES.filter((name) => RIVALS[name].packages.every((p) => packageVersion(p) !== null));
  if (!precision)
    for (const name of RIVAL_NAMES.filter((n) => !rivals.includes(n)))
      process.stderr.write(`bench: ${name} is not installed; npm install ${RIVALS[name].packages.join(" ")}\n`);
  progress.say("peak");
  const peakGflops = await peakOf();
  const rows: Row[] = [];
  for (const name of networks) {
    progress.say(name);
    rows.push(await measure(name, rivals, peakGflops));
  }
  progress.clear();
  process.stdout.write(options.json ? `${JSON.stringify(reportOf(rows, rivals, peakGflops), null, 2)}\n` : textOf(rows, peakGflops));
}

function reportOf(rows: readonly Row[], rivals: readonly RivalName[], peakGflops: number): object {
  const by = <T>(of: (row: Row) => T): Record<string, T> => Object.fromEntries(rows.map((row) => [row.network, of(row)]));
  return {
    date: new Date().toISOString().slice(0, 10),
    cpu: cpus()[0].model,
    command: `npm run bench:train -- ${process.argv.slice(2).join(" ")}`,
    load: rounded(loadavg()[0]),
    rivals: Object.fromEntries(rivals.map((name) => [name, packageVersion(RIVALS[name].packages[0])])),
    threads,
    device: options.device ?? "cpu",
    batch,
    optimizer,
    ratio: by((r) => r.ratio),
    backwardOverForward: by((r) => r.backwardOverForward),
    stepsPerSecond: by((r) => r.stepsPerSecond),
    gflops: by((r) => r.gflops),
    shareOfPeak: by((r) => r.shareOfPeak),
    peakGflops,
    networks: rows,
  };
}

try {
  await main();
} catch (e) {
  progress.clear();
  process.stderr.write(`bench: ${e instanceof HeddleError ? e.message : (e as Error).stack}\n`);
  process.exitCode = 1;
}
process.exit(); // threads that wait for work do not hold it
