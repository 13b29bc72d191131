// What pruning did → a page that needs nothing else: facts, layers, agreement and time against sparsity, the loss of distillation.
import { readFile } from "node:fs/promises";
import type { LayerReport } from "../compress/prune/index.ts";
import { readOnnx } from "../formats/onnx/read.ts";
import { HeddleError } from "../ir/error.ts";
import { toNumbers } from "../ir/tensor.ts";
import { OnnxModule } from "../nn/index.ts";
import type { SweepPoint } from "./prune_sweep.ts";
import { percentText, short } from "./units.ts";

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

const [WIDTH, HEIGHT] = [720, 300];
const MARGIN = { left: 60, right: 20, top: 40, bottom: 44 };
const COLORS = ["#2563eb", "#d97706", "#059669"];

const escaped = (text: string): string => text.replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]!);

interface Series {
  readonly name: string;
  readonly points: readonly (readonly [x: number, y: number])[];
}

/** Lines over a common axis; `xText` names places on it. */
function plot(title: string, series: readonly Series[], xText: (x: number) => string): string {
  const all = series.flatMap(({ points }) => points);
  const range = (values: readonly number[]): [number, number] => [Math.min(...values), Math.max(...values)];
  const [[left, right], [low, high]] = [range(all.map(([x]) => x)), range(all.map(([, y]) => y))];
  const x = (v: number): number => MARGIN.left + ((WIDTH - MARGIN.left - MARGIN.right) * (v - left)) / (right - left || 1);
  const y = (v: number): number => HEIGHT - MARGIN.bottom - ((HEIGHT - MARGIN.top - MARGIN.bottom) * (v - low)) / (high - low || 1);
  const marks = [0, 0.25, 0.5, 0.75, 1].map((part) => {
    const [at, level] = [left + part * (right - left), low + part * (high - low)];
    return `<path d="M${MARGIN.left} ${y(level).toFixed(1)}H${WIDTH - MARGIN.right}" stroke="#8884"/>
<text x="${MARGIN.left - 8}" y="${(y(level) + 4).toFixed(1)}" text-anchor="end">${Number(level.toPrecision(4))}</text>
<text x="${x(at).toFixed(1)}" y="${HEIGHT - MARGIN.bottom + 20}" text-anchor="middle">${escaped(xText(at))}</text>`;
  });
  const lines = series.map(({ name, points }, i) => {
    const path = points.map(([a, b]) => `${x(a).toFixed(1)},${y(b).toFixed(1)}`).join(" ");
    const dots =
      points.length > 40
        ? ""
        : points.map(([a, b]) => `<circle cx="${x(a).toFixed(1)}" cy="${y(b).toFixed(1)}" r="3" fill="${COLORS[i]}"/>`).join("");
    return `<polyline points="${path}" fill="none" stroke="${COLORS[i]}" stroke-width="1.8"/>${dots}
<text x="${WIDTH - MARGIN.right - 140 * i}" y="22" text-anchor="end" fill="${COLORS[i]}">■ ${escaped(name)}</text>`;
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" width="${WIDTH}" font-family="sans-serif" font-size="12" fill="#777">
<text x="${MARGIN.left}" y="22" font-size="15" font-weight="bold">${escaped(title)}</text>
${[...marks, ...lines].join("\n")}</svg>`;
}

/** Each network as it runs here; the dense one as a level; networks that heddle bench timed. */
function timeSeries(sweep: readonly SweepPoint[], bench: readonly BenchPoint[]): Series[] {
  const dense = sweep.find(({ sparsity }) => sparsity === 0);
  const most = Math.max(...sweep.map(({ sparsity }) => sparsity));
  const benched = bench.toSorted((a, b) => a.sparsity - b.sparsity);
  return [
    ...(sweep.length > 0 ? [{ name: "pruned", points: sweep.map((p) => [p.sparsity, p.ms] as const) }] : []),
    ...(dense ? [{ name: "dense", points: [[0, dense.ms] as const, [most, dense.ms] as const] }] : []),
    ...(bench.length > 0 ? [{ name: "heddle bench", points: benched.map((p) => [p.sparsity, p.ms] as const) }] : []),
  ];
}

export function reportPage({ title, facts, layers, sweep, bench, losses }: Report): string {
  const row = (cells: readonly string[], tag: "td" | "th" = "td"): string =>
    `<tr>${cells.map((c) => `<${tag}>${escaped(c)}</${tag}>`).join("")}</tr>`;
  const plots: string[] = [];
  const judged = (of: "meanCosine" | "sameClass"): Series["points"] =>
    sweep.flatMap((p) => (p[of] === null ? [] : [[p.sparsity, p[of]] as const]));
  if (judged("meanCosine").length > 0)
    plots.push(
      plot(
        "Agreement against sparsity",
        [
          { name: "mean cosine", points: judged("meanCosine") },
          { name: "same class", points: judged("sameClass") },
        ],
        percentText,
      ),
    );
  const timed = timeSeries(sweep, bench);
  if (timed.length > 0) plots.push(plot("Time against sparsity, ms", timed, percentText));
  if (losses.length > 1)
    plots.push(plot("Distillation", [{ name: "loss", points: losses.map((loss, i) => [i + 1, loss]) }], (x) => `${Math.round(x)}`));
  const layerRows = layers.map((l) =>
    row([l.name, l.operator, l.shape.join("×"), `${l.weights}`, percentText(l.density), l.error === null ? "–" : short(l.error)]),
  );
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>${escaped(title)}</title>
<style>:root{color-scheme:light dark}body{font:14px sans-serif;margin:2em auto;max-width:780px}svg{max-width:100%;height:auto}td,th{padding:2px 14px 2px 0;text-align:left}</style></head>
<body><h1>${escaped(title)}</h1>
<table>${facts.map((fact) => row(fact)).join("\n")}</table>
${plots.join("\n")}
<h3>Layers</h3>
<p>Error: squared distance of the layer's outputs from the dense layer's, in parts of their squared length.</p>
<table>${row(["weight", "operator", "shape", "weights", "density", "error"], "th")}
${layerRows.join("\n")}</table></body></html>
`;
}
