// heddle bench: heddle and other engines timed in turns on the same inputs, their start-up and memory in fresh processes.
import { type Agreement, BOUNDS, compareOutputs } from "../agreement.ts";
import { type ColdStart, coldHeddle, coldRival, measureColdStarts } from "../cold_start.ts";
import { type Command, type Invocation, type Options, type Outcome, UsageError } from "../command.ts";
import { interleave } from "../interleave.ts";
import { cpuThreads, deviceName, modelPath, type OpenedModel, withModel } from "../open_model.ts";
import { listOption, loadOptions, numberOption, precisionOption } from "../options.ts";
import { randomInputs } from "../random.ts";
import { type BoundRun, type Engine, isInstalled, openRival, RIVALS, type RivalName } from "../rivals.ts";
import { compareWithDense, comparisonText, type SparseComparison } from "../sparse_table.ts";
import { rounded, roundedSpread, type Spread, spreadOf } from "../statistics.ts";
import { formatTable } from "../table.ts";
import { bytesText, msText, short, threadsText } from "../units.ts";

export const bench: Command = (invocation) => {
  const { options } = invocation;
  const rivals = rivalsOf(options);
  const seconds = numberOption(options, "seconds", { min: 0.01, max: 3600 }) ?? 3;
  const seed = numberOption(options, "seed", { min: 0, isInteger: true }) ?? 1;
  return withModel(invocation, modelPath(invocation), loadOptions(options), (opened) =>
    compareOn(invocation, opened, { rivals, seconds, seed }),
  );
};

/** onnxruntime where it is installed, unless the command line names others, or none. */
function rivalsOf(options: Options): RivalName[] {
  const given = listOption(options, "against");
  if (given.length === 0) return isInstalled("onnxruntime") ? ["onnxruntime"] : [];
  if (given.includes("none")) return [];
  return [...new Set(given)].map((name) => {
    const rival = RIVALS.find((r) => r === name && r !== "reference");
    if (!rival) throw new UsageError(`--against: got ${name}, wanted ${RIVALS.filter((r) => r !== "reference").join(", ")} or none`);
    return rival;
  });
}

interface Settings {
  readonly rivals: readonly RivalName[];
  readonly seconds: number;
  readonly seed: number;
}

interface Rival {
  readonly name: RivalName;
  readonly engine: Engine;
  readonly bound: BoundRun;
  readonly outputs: readonly Agreement[];
}

async function compareOn(invocation: Invocation, opened: OpenedModel, settings: Settings): Promise<Outcome> {
  const { model, shapes, path } = opened;
  const { progress, options } = invocation;
  const threads = cpuThreads(model, options);
  const program = await model.program(shapes);
  const cold = options.cold === false ? {} : await coldStarts(invocation, opened, settings.rivals);
  const inputs = randomInputs(opened.inputs, settings.seed);
  const own = { run: () => model.run(inputs) };
  const bounds = BOUNDS[precisionOption(options) ?? "f32"];
  const rivals: Rival[] = [];
  try {
    for (const name of settings.rivals) {
      progress(`loading ${name}`);
      const engine = await openRival(name, path, { threads, shapes });
      const bound = engine.bind(inputs);
      rivals.push({ name, engine, bound, outputs: [] });
      rivals[rivals.length - 1] = { name, engine, bound, outputs: compareOutputs(await own.run(), await bound.outputs(), bounds) };
    }
    const onTurn = (share: number) => progress(`timing, ${Math.round(share * 100)} %`);
    const times = await interleave([own, ...rivals.map((r) => r.bound)], { seconds: settings.seconds, onTurn });
    const head = {
      model: path,
      device: deviceName(model),
      threads,
      shapes: Object.fromEntries(opened.inputs.map((i) => [i.name, i.shape])),
    };
    const sparse = await compareWithDense(invocation, opened, settings.seconds);
    return outcome({ ...head, arenaBytes: program.arenaBytes, codeBytes: program.codeBytes }, rivals, times, cold, sparse);
  } finally {
    for (const { engine } of rivals) await engine.close();
  }
}

/** heddle's first start with a model: nothing in its cache of compiled programs. */
const UNCACHED = "heddleUncached";

/** Before anything else runs here: idle threads of this process would be in the way. */
function coldStarts(
  { progress, options }: Invocation,
  opened: OpenedModel,
  names: readonly RivalName[],
): Promise<Record<string, ColdStart>> {
  progress("starting fresh processes");
  const { path, inputs, model, shapes } = opened;
  const threads = cpuThreads(model, options);
  const own = coldHeddle(path, inputs, { ...loadOptions(options), threads, shapes });
  const uncached = coldHeddle(path, inputs, { ...loadOptions(options), threads, shapes, cache: false }, UNCACHED);
  return measureColdStarts([own, uncached, ...names.flatMap((name) => coldRival(name, path, inputs, threads) ?? [])]);
}

interface Head {
  readonly model: string;
  readonly device: string;
  readonly threads: number;
  readonly arenaBytes: number;
  readonly codeBytes: number;
}

interface RivalReport {
  readonly version: string;
  readonly ms: Spread;
  readonly runs: number;
  readonly agrees: boolean;
  readonly outputs: readonly Agreement[];
}

function outcome(
  head: Head,
  rivals: readonly Rival[],
  times: readonly (readonly number[])[],
  cold: Record<string, ColdStart>,
  sparse: SparseComparison | null,
): Outcome {
  const spreads = times.map((t) => roundedSpread(spreadOf(t)));
  const [ms] = spreads;
  const reports = Object.fromEntries(
    rivals.map(({ name, engine, outputs }, i): [string, RivalReport] => [
      name,
      { version: engine.version, ms: spreads[i + 1], runs: times[i + 1].length, agrees: outputs.every((o) => o.ok), outputs },
    ]),
  );
  const each = <T>(of: (c: ColdStart) => T): Record<string, T> =>
    Object.fromEntries(Object.entries(cold).map(([name, c]) => [name, of(c)]));
  const json = {
    ...head,
    ...{ ms, runs: times[0].length, rivals: reports },
    ratio: Object.fromEntries(Object.entries(reports).map(([name, r]) => [name, rounded(r.ms.median / ms.median)])),
    ...(Object.keys(cold).length > 0 && { coldStartMs: each((c) => c.ms), peakRssBytes: each((c) => c.rssBytes) }),
  };
  return {
    json: { ...json, ...(sparse && { sparse }) },
    text: () => [textOf(json, reports, cold), ...(sparse ? comparisonText(sparse) : [])].join("\n"),
  };
}

type Report = Head & { readonly ms: Spread; readonly runs: number; readonly ratio: Record<string, number> };

function textOf(report: Report, rivals: Record<string, RivalReport>, cold: Record<string, ColdStart>): string {
  const row = (name: string, ms: Spread, runs: number, key: string, ratio: string): string[] => {
    const start = cold[key];
    return [
      name,
      msText(ms.median),
      msText(ms.p10),
      msText(ms.p90),
      String(runs),
      ratio,
      start ? msText(start.ms) : "–",
      start ? bytesText(start.rssBytes) : "–",
    ];
  };
  const rows = [
    row(`heddle (${report.device})`, report.ms, report.runs, "heddle", ""),
    ...Object.entries(rivals).map(([name, r]) => row(`${name} ${r.version}`, r.ms, r.runs, name, `${short(report.ratio[name])}×`)),
  ];
  const lines = [
    `${report.model}, ${threadsText(report.threads)}, tensors in ${bytesText(report.arenaBytes)}, ${bytesText(report.codeBytes)} of code`,
    "",
    formatTable(["engine", "median", "p10", "p90", "runs", "ratio", "cold start", "peak memory"], rows),
  ];
  const first = cold[UNCACHED];
  if (first) lines.push("", `heddle's first start with a model, which compiles it: ${msText(first.ms)}, ${bytesText(first.rssBytes)}`);
  if (Object.keys(rivals).length === 0 && !isInstalled("onnxruntime"))
    lines.push("", "nothing to compare with: npm install onnxruntime-node");
  for (const [name, { agrees, outputs }] of Object.entries(rivals)) {
    const worst = outputs.find((o) => !o.ok);
    if (!agrees && worst)
      lines.push(
        "",
        `warning: ${name} computes something else: output ${worst.name}, ${worst.reason ?? `relative error ${short(worst.maxRel ?? 0)}`}; see heddle verify`,
      );
  }
  return lines.join("\n");
}
