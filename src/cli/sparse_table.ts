// What was chosen for layers with sparse weights, and by which predictions: rows for JSON, and a table.
import { setImmediate as nextTurn } from "node:timers/promises";
import { type AnyProgram, openModel, readModel } from "../model.ts";
import { describeNode } from "../run/describe.ts";
import { GpuProgram } from "../run/gpu/program.ts";
import type { Invocation } from "./command.ts";
import { interleave } from "./interleave.ts";
import type { OpenedModel } from "./open_model.ts";
import { loadOptions, sparseOption } from "./options.ts";
import { randomInputs } from "./random.ts";
import { median, rounded, roundedSpread, type Spread, spreadOf } from "./statistics.ts";
import { clip, formatTable } from "./table.ts";
import { msText, percentText, short } from "./units.ts";

export interface SparseRow {
  /** Its name in the model. */
  readonly layer: string;
  /** Of the weights: (rows, depth), times n columns. */
  readonly rows: number;
  readonly depth: number;
  readonly n: number;
  readonly density: number;
  /** "dense", "csb", "code" made for the pattern, or blocks, for example "BSR 16x4". */
  readonly format: string;
  /** What it was chosen by, and whether that was measured on this machine, the layer by itself. */
  readonly predicted: { readonly denseMs: number; readonly sparseMs: number };
  readonly isTried: boolean;
  /** Dense over sparse. */
  readonly speedUp: number;
}

/** Layers whose weights are at least three tenths zeros, in the order in which they run; none on GPUs. */
export function sparseRows(program: AnyProgram): SparseRow[] {
  const choices = program instanceof GpuProgram ? [] : (program.schedule.backend.sparse?.choices ?? []);
  return choices.map(({ node, rows, depth, n, density, denseMs, sparseMs, isSparse, isTried = false, format = "csb" }) => ({
    layer: describeNode(node).name,
    ...{ rows, depth, n },
    density: rounded(density),
    format: isSparse ? format : "dense",
    predicted: { denseMs: rounded(denseMs), sparseMs: rounded(sparseMs) },
    isTried,
    speedUp: rounded(denseMs / sparseMs),
  }));
}

const NAME_WIDTH = 36;
const byText = ({ isTried }: SparseRow): string => (isTried ? "trial" : "prediction");

/** Lines to add to a report; none where no weights are sparse. */
export function sparseText(rows: readonly SparseRow[]): string[] {
  if (rows.length === 0) return [];
  const cells = rows.map((r) => [
    clip(r.layer, NAME_WIDTH),
    `${r.rows}x${r.depth}`,
    String(r.n),
    percentText(r.density),
    r.format,
    msText(r.predicted.denseMs),
    msText(r.predicted.sparseMs),
    `${short(r.speedUp)}×`,
    byText(r),
  ]);
  const header = ["layer", "weights", "columns", "density", "kernel", "dense", "sparse", "speed-up", "by"];
  return ["", "layers with sparse weights, and what they were chosen by:", formatTable(header, cells, { left: [0, 1, 4, 8] })];
}

/** The network as it was compiled and with dense kernels alone, in turns. */
export interface SparseComparison {
  readonly ms: Spread;
  readonly denseMs: Spread;
  /** Dense over sparse. */
  readonly speedUp: number;
  readonly layers: readonly (SparseRow & {
    readonly measured: { readonly denseMs: number; readonly ms: number; readonly speedUp: number };
  })[];
}

const RUNS = 9;

/** Null: no weights are sparse, or dense kernels were asked for. */
export async function compareWithDense(
  { options, progress }: Invocation,
  opened: OpenedModel,
  seconds: number,
): Promise<SparseComparison | null> {
  const { model, path, shapes } = opened;
  const program = await model.program(shapes);
  const rows = sparseRows(program);
  if (rows.length === 0 || sparseOption(options) === "never") return null;
  progress("compiling with dense kernels");
  using dense = await openModel(await readModel(path), { ...loadOptions(options), shapes, sparse: "never" });
  const inputs = randomInputs(opened.inputs, 1);
  const contestants = [model, dense].map((m) => ({ run: () => m.run(inputs) }));
  const [ms, denseMs] = (await interleave(contestants, { seconds })).map((t) => roundedSpread(spreadOf(t)));
  const programs = [program, await dense.program(shapes)];
  const times = programs.map(() => new Map<string, number[]>());
  for (let run = 0; run < RUNS; run++)
    for (const [p, one] of programs.entries()) {
      await nextTurn(); // Ctrl-C must get through
      for (const { node, ms } of await one.profile(inputs)) {
        const { name } = describeNode(node);
        times[p].set(name, [...(times[p].get(name) ?? []), ms]);
      }
    }
  const layers = rows.map((row) => {
    const [own, other] = times.map((of) => median(of.get(row.layer) ?? [])); // the programs' steps may differ, not their layers
    return { ...row, measured: { denseMs: rounded(other), ms: rounded(own), speedUp: rounded(other / own) } };
  });
  return { ms, denseMs, speedUp: rounded(denseMs.median / ms.median), layers };
}

export function comparisonText({ ms, denseMs, speedUp, layers }: SparseComparison): string[] {
  const cells = layers.map((r) => [
    clip(r.layer, NAME_WIDTH),
    `${r.rows}x${r.depth}`,
    String(r.n),
    percentText(r.density),
    r.format,
    `${msText(r.predicted.denseMs)} → ${msText(r.predicted.sparseMs)}`,
    `${msText(r.measured.denseMs)} → ${msText(r.measured.ms)}`,
    `${short(r.measured.speedUp)}×`,
    byText(r),
  ]);
  const header = [
    "layer",
    "weights",
    "columns",
    "density",
    "kernel",
    "chosen by: dense → sparse",
    "in the network: dense → chosen",
    "speed-up",
    "by",
  ];
  return [
    "",
    `with dense kernels alone: ${msText(denseMs.median)}, as chosen ${msText(ms.median)} (${short(speedUp)}×, in turns)`,
    formatTable(header, cells, { left: [0, 1, 4, 8] }),
  ];
}
