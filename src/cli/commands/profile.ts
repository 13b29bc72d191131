// heddle profile: the time of every node, against what the machine could do.
import { setImmediate as nextTurn } from "node:timers/promises";
import { type GpuPeaks, measureGpuPeaks } from "../../devices/gpu_peaks.ts";
import { isGpu } from "../../devices/open.ts";
import { measurePeaks } from "../../devices/peaks.ts";
import { writeFileAtomicSync } from "../../formats/write_file.ts";
import type { AnyProgram } from "../../model.ts";
import { describeNode, type NodeFacts } from "../../run/describe.ts";
import type { Command, Invocation, Outcome } from "../command.ts";
import { deviceName, deviceText, modelPath, type OpenedModel, withModel } from "../open_model.ts";
import { flagOption, loadOptions, numberOption, textOption } from "../options.ts";
import { randomInputs } from "../random.ts";
import { sparseRows, sparseText } from "../sparse_table.ts";
import { median, rounded } from "../statistics.ts";
import { clip, formatTable } from "../table.ts";
import { msText, percentText, short } from "../units.ts";

const DEFAULT_RUNS = 15;
const SHOWN = 25;
const NAME_WIDTH = 36;
const OPERATOR_WIDTH = 30;

interface Timed {
  readonly ms: number;
  readonly share: number;
  readonly gflops: number;
  readonly gbs: number;
  /** Least time that arithmetic and memory allow, over the time taken. Tensors that stay in caches may pass 1. */
  readonly roofline: number;
}
/** What both kinds of device are measured for. */
type RooflinePeaks = GpuPeaks;
type NodeRow = NodeFacts & Timed & { readonly shape: readonly number[] };
type OperatorRow = Timed & { readonly operator: string; readonly count: number };

export const profile: Command = (invocation) => {
  const { options } = invocation;
  const runs = numberOption(options, "runs", { min: 1, max: 10_000, isInteger: true }) ?? DEFAULT_RUNS;
  const seed = numberOption(options, "seed", { min: 0, isInteger: true }) ?? 1;
  return withModel(invocation, modelPath(invocation), loadOptions(options), (opened) => profileModel(invocation, opened, runs, seed));
};

async function profileModel(invocation: Invocation, opened: OpenedModel, runs: number, seed: number): Promise<Outcome> {
  const { model, shapes, path } = opened;
  const { options, progress } = invocation;
  const program = await model.program(shapes);
  progress("measuring what the machine can do");
  const device = model.device!; // deviceOptions gave one that compiles
  const peaks = await (isGpu(device) ? measureGpuPeaks(device) : measurePeaks(device));
  const medians = await stepMedians(program, randomInputs(opened.inputs, seed), runs, progress);
  const { nodes, totalMs } = nodeRows(program, medians, peaks);
  const operators = operatorRows(nodes, totalMs, peaks);
  const trace = textOption(options, "trace");
  if (trace !== undefined) writeFileAtomicSync(trace, JSON.stringify(traceEvents(nodes)));
  const roofline = rounded(nodes.reduce((sum, n) => sum + leastMs(n, peaks), 0) / totalMs);
  const head = {
    model: path,
    device: deviceName(model),
    threads: model.threads,
    runs,
    totalMs: rounded(totalMs),
    roofline,
    peaks,
  };
  const sparse = sparseRows(program);
  const text = () => [textOf({ ...head, operators, nodes }, flagOption(options, "all")), ...sparseText(sparse)].join("\n");
  return { json: { ...head, operators, nodes, trace, ...(sparse.length > 0 && { sparse }) }, text };
}

/** Median milliseconds of each step. */
async function stepMedians(
  program: AnyProgram,
  inputs: ReturnType<typeof randomInputs>,
  runs: number,
  progress: Invocation["progress"],
): Promise<number[]> {
  await program.profile(inputs);
  const times = program.schedule.steps.map((): number[] => []);
  for (let run = 0; run < runs; run++) {
    progress(`run ${run + 1} of ${runs}`);
    await nextTurn(); // Ctrl-C must get through
    for (const [i, { ms }] of (await program.profile(inputs)).entries()) times[i].push(ms);
  }
  return times.map(median);
}

/** Milliseconds that arithmetic or memory need at the measured peaks. */
const leastMs = ({ flops, bytes }: { flops: number; bytes: number }, { fmaGflopsAllCores, copyGBs }: RooflinePeaks): number =>
  Math.max(flops / fmaGflopsAllCores, bytes / copyGBs) / 1e6;

function timed(work: { ms: number; flops: number; bytes: number; leastMs: number }, totalMs: number): Timed {
  const { ms, flops, bytes } = work;
  const rate = (amount: number): number => (ms > 0 ? rounded(amount / ms / 1e6) : 0);
  return {
    ms: rounded(ms),
    share: rounded(ms / totalMs),
    gflops: rate(flops),
    gbs: rate(bytes),
    roofline: ms > 0 ? rounded(work.leastMs / ms) : 0,
  };
}

function nodeRows(program: AnyProgram, medians: readonly number[], peaks: RooflinePeaks): { nodes: NodeRow[]; totalMs: number } {
  const totalMs = medians.reduce((sum, ms) => sum + ms, 0);
  const nodes = program.schedule.steps.map(({ node }, i) => {
    const facts = describeNode(node);
    return { ...facts, shape: node.outputs[0].type.shape, ...timed({ ...facts, ms: medians[i], leastMs: leastMs(facts, peaks) }, totalMs) };
  });
  return { nodes, totalMs };
}

function operatorRows(nodes: readonly NodeRow[], totalMs: number, peaks: RooflinePeaks): OperatorRow[] {
  const families = [...new Set(nodes.map((n) => n.family))];
  const rows = families.map((operator) => {
    const own = nodes.filter((n) => n.family === operator);
    const sum = (of: (n: NodeRow) => number): number => own.reduce((total, n) => total + of(n), 0);
    const work = { ms: sum((n) => n.ms), flops: sum((n) => n.flops), bytes: sum((n) => n.bytes), leastMs: sum((n) => leastMs(n, peaks)) };
    return { operator, count: own.length, ...timed(work, totalMs) };
  });
  return rows.sort((a, b) => b.ms - a.ms);
}

/** Nodes one after another with their median times, in microseconds: Chrome's trace event format. */
function traceEvents(nodes: readonly NodeRow[]): object {
  let ts = 0;
  const traceEvents = nodes.map(({ name, operator, ms, shape, flops, bytes, gflops, gbs, roofline }) => {
    const event = { name: `${operator} ${name}`, cat: operator, ph: "X", pid: 1, tid: 1, ts, dur: ms * 1000 };
    ts += ms * 1000;
    return { ...event, args: { shape: shape.join("x"), flops, bytes, gflops, gbs, roofline } };
  });
  return { traceEvents, displayTimeUnit: "ns" };
}

interface Profile {
  readonly device: string;
  readonly threads: number;
  readonly runs: number;
  readonly totalMs: number;
  readonly roofline: number;
  readonly peaks: RooflinePeaks;
  readonly operators: readonly OperatorRow[];
  readonly nodes: readonly NodeRow[];
}

const timedCells = (t: Timed): string[] => [msText(t.ms), percentText(t.share), short(t.gflops), short(t.gbs), percentText(t.roofline)];
const TIMED_HEADER = ["time", "share", "GFLOP/s", "GB/s", "roofline"];

function textOf(p: Profile, isAll: boolean): string {
  const slowest = p.nodes.toSorted((a, b) => b.ms - a.ms);
  const shown = isAll ? p.nodes : slowest.slice(0, SHOWN);
  const hidden = p.nodes.length - shown.length;
  const { fmaGflopsAllCores, copyGBs } = p.peaks;
  return [
    `${msText(p.totalMs)} on ${deviceText(p.device, p.threads)}: ${percentText(p.roofline)} of the roofline (medians of ${p.runs} runs, step by step)`,
    `measured peaks: ${short(fmaGflopsAllCores)} GFLOP/s, ${short(copyGBs)} GB/s`,
    "",
    formatTable(
      ["operator", "count", ...TIMED_HEADER],
      p.operators.map((o) => [o.operator, String(o.count), ...timedCells(o)]),
    ),
    "",
    formatTable(
      ["node", "operators", "output", ...TIMED_HEADER],
      shown.map((n) => [clip(n.name, NAME_WIDTH), clip(n.operator, OPERATOR_WIDTH), n.shape.join("x"), ...timedCells(n)]),
      { left: [0, 1, 2] },
    ),
    ...(hidden > 0 ? [`and ${hidden} more nodes: --all`] : []),
  ].join("\n");
}
