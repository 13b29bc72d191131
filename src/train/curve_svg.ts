// A run's history → a picture of its curves: SVG, or a page around it that needs nothing else.
import { isWide, type Point } from "./curve_text.ts";
import type { History } from "./saved.ts";

const [WIDTH, HEIGHT] = [760, 360];
const MARGIN = { left: 62, right: 62, top: 40, bottom: 44 };
const COLORS = { loss: "#2563eb", metrics: ["#d97706", "#059669", "#9333ea", "#dc2626"] };

const escaped = (text: string): string => text.replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]!);
const short = (y: number): string => `${Number(y.toPrecision(3))}`;

interface Scale {
  at(y: number): number;
  readonly ticks: readonly number[];
}

/** From the data's range to pixels, the largest on top. */
function verticalScale(points: readonly Point[]): Scale {
  const ys = points.map((p) => p.y);
  const f = isWide(points) ? Math.log : (y: number) => y;
  const [low, high] = [Math.min(...ys), Math.max(...ys)];
  const [a, b] = [f(low), f(high)];
  const span = b - a || 1;
  const at = (y: number): number => MARGIN.top + (HEIGHT - MARGIN.top - MARGIN.bottom) * (1 - (f(y) - a) / span);
  const inverse = isWide(points) ? Math.exp : (y: number) => y;
  return { at, ticks: [0, 0.25, 0.5, 0.75, 1].map((part) => inverse(a + part * span)) };
}

/** Loss on the left axis, metrics on the right one, both over steps. */
export function curveSvg(title: string, { losses, epochs }: Pick<History, "losses" | "epochs">): string {
  const lossPoints = losses.map(({ step, loss }) => ({ x: step, y: loss }));
  const names = [...new Set(epochs.flatMap(({ metrics }) => Object.keys(metrics)))];
  const curves = names.map((name) => ({
    name,
    points: epochs.flatMap(({ step, metrics }) => (name in metrics ? [{ x: step, y: metrics[name] }] : [])),
  }));
  const lossName = names.includes("loss") ? "training loss" : "loss";
  const last = Math.max(1, ...[...lossPoints, ...curves.flatMap((c) => c.points)].map((p) => p.x));
  const x = (step: number): number => MARGIN.left + ((WIDTH - MARGIN.left - MARGIN.right) * step) / last;
  const path = (points: readonly Point[], y: Scale): string => points.map((p) => `${x(p.x).toFixed(1)},${y.at(p.y).toFixed(1)}`).join(" ");
  const axis = ({ ticks, at }: Scale, side: "left" | "right", color: string): string =>
    ticks
      .map((tick) => {
        const place = side === "left" ? `x="${MARGIN.left - 8}" text-anchor="end"` : `x="${WIDTH - MARGIN.right + 8}"`;
        return `<text ${place} y="${(at(tick) + 4).toFixed(1)}" fill="${color}">${short(tick)}</text>`;
      })
      .join("");
  const parts: string[] = [];
  const bottom = HEIGHT - MARGIN.bottom;
  for (const part of [0, 0.25, 0.5, 0.75, 1])
    parts.push(`<text x="${x(part * last).toFixed(1)}" y="${bottom + 20}" text-anchor="middle">${Math.round(part * last)}</text>`);
  if (lossPoints.length > 0) {
    const y = verticalScale(lossPoints);
    for (const tick of y.ticks)
      parts.push(`<path d="M${MARGIN.left} ${y.at(tick).toFixed(1)}H${WIDTH - MARGIN.right}" stroke="#8884" fill="none"/>`);
    parts.push(axis(y, "left", COLORS.loss), curve(path(lossPoints, y), COLORS.loss), legend(lossName, COLORS.loss, 0));
  }
  const all = curves.flatMap((c) => c.points);
  if (all.length > 0) {
    const y = verticalScale(all);
    parts.push(axis(y, "right", COLORS.metrics[0]));
    for (const [i, { name, points }] of curves.entries()) {
      const color = COLORS.metrics[i % COLORS.metrics.length];
      parts.push(curve(path(points, y), color), ...points.map((p) => `<circle cx="${x(p.x).toFixed(1)}" cy="${y.at(p.y).toFixed(1)}" r="3" fill="${color}"/>`)); // biome-ignore format: two kinds of marks
      parts.push(legend(name, color, i + 1));
    }
  }
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" width="${WIDTH}" font-family="sans-serif" font-size="12" fill="#777">
<text x="${MARGIN.left}" y="22" font-size="15" font-weight="bold">${escaped(title)}</text>
<text x="${WIDTH / 2}" y="${HEIGHT - 6}" text-anchor="middle">steps</text>
${parts.join("\n")}
</svg>
`;
}

const curve = (points: string, color: string): string => `<polyline points="${points}" fill="none" stroke="${color}" stroke-width="1.8"/>`;
const legend = (name: string, color: string, place: number): string =>
  `<text x="${WIDTH - MARGIN.right - 90 * place}" y="22" text-anchor="end" fill="${color}">■ ${escaped(name)}</text>`;

/** A page with the picture and a table of epochs; it loads nothing. */
export function curvePage(
  title: string,
  history: Pick<History, "losses" | "epochs">,
  facts: readonly (readonly [string, string])[],
): string {
  const names = [...new Set(history.epochs.flatMap(({ metrics }) => Object.keys(metrics)))];
  const row = (cells: readonly string[], tag: "td" | "th"): string =>
    `<tr>${cells.map((c) => `<${tag}>${escaped(c)}</${tag}>`).join("")}</tr>`;
  const rows = history.epochs.map(({ epoch, step, metrics }) =>
    row([`${epoch}`, `${step}`, ...names.map((name) => (name in metrics ? metrics[name].toFixed(4) : ""))], "td"),
  );
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>${escaped(title)}</title>
<style>:root{color-scheme:light dark}body{font:14px sans-serif;margin:2em auto;max-width:780px}svg{max-width:100%;height:auto}td,th{padding:2px 14px 2px 0;text-align:right}</style></head>
<body>${curveSvg(title, history)}
<table>${facts.map((fact) => row(fact, "td")).join("\n")}</table>
<h3>Epochs</h3>
<table>${row(["epoch", "step", ...names], "th")}
${rows.join("\n")}</table></body></html>
`;
}
