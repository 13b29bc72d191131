// What pruning did → a page that needs nothing else: facts, layers, agreement and time against sparsity, the loss of distillation.
import { readFile } from "node:fs/promises";
import type { LayerReport } from "../compress/prune/index.ts";
import { readOnnx } from "../formats/onnx/read.ts";
import { HeddleError } from "../ir/error.ts";
import { toNumbers } from "../ir/tensor.ts";
import { OnnxModule } from "../nn/index.ts";
import { CHART_STYLE, escaped, lineChart, type Series } from "./line_chart.ts";
import type { SweepPoint } from "./prune_sweep.ts";
import { countText, msText, percentText, short } from "./units.ts";

/** One model as `heddle bench --json` timed it. */
export interface BenchPoint {
  readonly model: string;
  readonly sparsity: number;
  readonly ms: number;
}

export interface Report {
  readonly title: string;
  readonly facts: readonly (readonly [name: string, value: string])[];
  readonly layers: readonly LayerReport[];
  readonly sweep: readonly SweepPoint[];
  readonly bench: readonly BenchPoint[];
  readonly losses: readonly number[];
}

/** A file of `heddle bench --json`; how sparse the model is that it names is read from the model. Throws HeddleError ("missing", "bad-input"). */
export async function readBench(file: string): Promise<BenchPoint> {
  const text = await readFile(file, "utf8").catch((cause) => {
    throw new HeddleError("missing", `--bench: ${file} cannot be read`, { cause });
  });
  const bad = (cause?: unknown) => new HeddleError("bad-input", `--bench: ${file} is not what heddle bench --json prints`, { cause });
  let parsed: { readonly model?: unknown; readonly ms?: { readonly median?: unknown } };
  try {
    parsed = JSON.parse(text);
  } catch (cause) {
    throw bad(cause);
  }
  const { model, ms } = parsed ?? {};
  if (typeof model !== "string" || typeof ms?.median !== "number") throw bad();
  return { model, sparsity: await zerosOf(model), ms: ms.median };
}

/** The part of the weights with two axes or more that is zero. */
async function zerosOf(path: string): Promise<number> {
  const bytes = await readFile(path).catch((cause) => {
    throw new HeddleError("missing", `--bench: the model ${path} cannot be read`, { cause });
  });
  let [zeros, count] = [0, 0];
  for (const [, parameter] of new OnnxModule(readOnnx(bytes)).namedState()) {
    if (parameter.shape.length < 2) continue;
    for (const w of toNumbers(await parameter.value.tensorData())) zeros += Number(w === 0);
    count += parameter.shape.reduce((n, d) => n * d, 1);
  }
  return count ? zeros / count : 0;
}

/** Networks of the sweep, the dense one and the one that is written: the last stands apart where it was taught, as the others were not. */
function overSparsity(sweep: readonly SweepPoint[], name: string, color: 0 | 1, f: (p: SweepPoint) => number | null): Series[] {
  const points = (of: readonly SweepPoint[]) => of.flatMap((p) => (f(p) === null ? [] : [[p.sparsity, f(p)!] as const])); // looked
  const [taught, others] = [sweep.filter((p) => p.isTaught), sweep.filter((p) => !p.isTaught)];
  return [
    { name, color, kind: "line" as const, points: points(others) },
    { name: `${name}, distilled`, color, kind: "mark" as const, points: points(taught) },
  ].filter((series) => series.points.length > 0);
}

function agreementChart(sweep: readonly SweepPoint[]): string[] {
  const series = [
    ...overSparsity(sweep, "mean cosine", 0, (p) => p.meanCosine),
    ...overSparsity(sweep, "same class", 1, (p) => p.sameClass),
  ];
  if (series.length === 0) return [];
  const yText = (y: number) => `${Number(y.toFixed(4))}`;
  return [lineChart({ title: "Agreement against sparsity", series, xText: wholePercent, yText, x: [0, 1], y: [1] })];
}

const wholePercent = (x: number): string => `${Math.round(1000 * x) / 10} %`;

/** Each network as it runs here; the dense one as a level; networks that heddle bench timed. */
function timeChart(sweep: readonly SweepPoint[], bench: readonly BenchPoint[]): string[] {
  const dense = sweep.find(({ sparsity }) => sparsity === 0);
  const most = Math.max(...sweep.map(({ sparsity }) => sparsity));
  const benched = bench.toSorted((a, b) => a.sparsity - b.sparsity).map((p) => [p.sparsity, p.ms] as const);
  const lines: Series[] = [
    { name: "pruned", kind: "line", color: 0, points: sweep.map((p) => [p.sparsity, p.ms]) },
    { name: "dense", kind: "level", color: 1, points: dense ? [0, most].map((x) => [x, dense.ms]) : [] },
    { name: "heddle bench", kind: "line", color: 2, points: benched },
  ];
  const series = lines.filter(({ points }) => points.length > 0);
  if (series.length === 0) return [];
  return [lineChart({ title: "Time against sparsity, ms", series, xText: wholePercent, yText: (y) => `${y}`, x: [0, 1], y: [0] })];
}

const lossChart = (losses: readonly number[]): string[] =>
  losses.length > 1
    ? [
        lineChart({
          title: "Distillation",
          series: [{ name: "loss", kind: "line", color: 0, points: losses.map((loss, i) => [i + 1, loss]) }],
          xText: (x) => `${x}`,
          yText: (y) => `${y}`,
        }),
      ]
    : [];

const STYLE = `:root{color-scheme:light dark;--line:#8883}
body{font:15px/1.5 system-ui,sans-serif;margin:2.5em auto;padding:0 1.2em;max-width:760px}
h1{font-size:1.5em;margin:0 0 .8em;overflow-wrap:anywhere}h2{font-size:1.1em;margin:2em 0 .3em}
dl{display:grid;grid-template-columns:repeat(auto-fit,minmax(160px,1fr));gap:.6em;margin:0 0 2em}
dl div{border:1px solid var(--line);border-radius:8px;padding:.5em .8em}dt{font-size:.8em;opacity:.7}dd{margin:0;font-weight:600;overflow-wrap:anywhere}
svg{display:block;margin:1.6em 0}table{border-collapse:collapse;width:100%;font-size:.87em;font-variant-numeric:tabular-nums}
th{text-align:left;border-bottom:2px solid var(--line)}td,th{padding:.25em .7em .25em 0}td{border-bottom:1px solid var(--line)}
.n{text-align:right}.bar{background:linear-gradient(#2563eb55 0 0) 0/var(--part) 100% no-repeat;padding-left:.4em}`;

/** What there is to know of a layer; the density also as a bar. */
function layerRow({ name, operator, shape, weights, density, error }: LayerReport): string {
  const cell = (text: string, kind = "n"): string => `<td${kind && ` class="${kind}"`}>${escaped(text)}</td>`;
  const bar = `<td class="bar" style="--part:${(100 * density).toFixed(1)}%">${percentText(density)}</td>`;
  return `<tr>${cell(name, "")}${cell(operator, "")}${cell(shape.join("×"), "")}${cell(countText(weights))}${bar}${cell(error === null ? "–" : short(error))}</tr>`;
}

/** The network that was asked for: what is not the dense one and not of the sweep. */
function timeFacts(sweep: readonly SweepPoint[]): Report["facts"] {
  const [dense, written] = [sweep.find(({ sparsity }) => sparsity === 0), sweep.find((p) => p.isWritten)];
  if (!dense || !written) return [];
  return [[`time; dense: ${msText(dense.ms)}`, `${msText(written.ms)} (${short(dense.ms / written.ms)}×)`]];
}

/** What is drawn, as a table for other programs. */
export const sweepCsv = (sweep: readonly SweepPoint[]): string =>
  [
    "sparsity,meanCosine,sameClass,ms,isWritten,isTaught",
    ...sweep.map((p) => [p.sparsity, p.meanCosine ?? "", p.sameClass ?? "", p.ms, p.isWritten, p.isTaught].join()),
    "",
  ].join("\n");

export function reportPage({ title, facts, layers, sweep, bench, losses }: Report): string {
  const tiles = [...facts, ...timeFacts(sweep)].map(([name, value]) => `<div><dt>${escaped(name)}</dt><dd>${escaped(value)}</dd></div>`);
  const head = ["weight", "operator", "shape", "weights", "density", "error"].map(
    (name) => `<th${name === "weights" || name === "error" ? ' class="n"' : ""}>${name}</th>`,
  );
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>${escaped(title)}</title>
<style>${STYLE}
${CHART_STYLE}</style></head>
<body><h1>${escaped(title)}</h1>
<dl>${tiles.join("\n")}</dl>
${[...agreementChart(sweep), ...timeChart(sweep, bench), ...lossChart(losses)].join("\n")}
<h2>Layers</h2>
<p>Density: the part of the weights that stays. Error: squared distance of the layer's outputs from the dense layer's, in parts of their squared length.</p>
<table><tr>${head.join("")}</tr>
${layers.map(layerRow).join("\n")}</table></body></html>
`;
}
