// Times of a network's nodes, their work and what the device can do → a roofline (Williams et al. 2009): rate over intensity, both logarithmic.
import { msText, short } from "../src/cli/units.ts";
import type { NodeTime, Peaks } from "../src/web/index.ts";
import { html, svg } from "./dom.ts";

const [WIDTH, HEIGHT] = [900, 360];
const MARGIN = { left: 70, right: 20, top: 16, bottom: 46 };
const [SMALLEST, LARGEST] = [3, 14];

interface Point {
  readonly node: NodeTime;
  /** Operations a byte. */
  readonly intensity: number;
  /** 10⁹ operations a second. */
  readonly gflops: number;
}

interface Scale {
  readonly from: number;
  readonly to: number;
  at(value: number): number;
}

/** Whole powers of ten around the values, laid from `start` to `end`. */
function logScale(values: readonly number[], start: number, end: number): Scale {
  const from = Math.floor(Math.log10(Math.min(...values)));
  const to = Math.max(from + 1, Math.ceil(Math.log10(Math.max(...values))));
  return { from, to, at: (value) => start + ((Math.log10(value) - from) / (to - from)) * (end - start) };
}

const powers = ({ from, to }: Scale): number[] => Array.from({ length: to - from + 1 }, (_, i) => 10 ** (from + i));

export function rooflinePlot(nodes: readonly NodeTime[], { gflops: roof, gbs }: Peaks): HTMLElement {
  const points = nodes
    .filter(({ ms, flops, bytes }) => ms > 0 && flops > 0 && bytes > 0)
    .map((node): Point => ({ node, intensity: node.flops / node.bytes, gflops: node.flops / node.ms / 1e6 }));
  const ridge = roof / gbs;
  const x = logScale([...points.map((p) => p.intensity), ridge], MARGIN.left, WIDTH - MARGIN.right);
  const y = logScale([...points.map((p) => p.gflops), roof], HEIGHT - MARGIN.bottom, MARGIN.top);
  const reachable = (intensity: number): number => Math.min(roof, intensity * gbs);
  const totalMs = nodes.reduce((sum, { ms }) => sum + ms, 0);
  const size = ({ node }: Point): number => SMALLEST + (LARGEST - SMALLEST) * Math.sqrt(node.ms / totalMs);
  const dots = points.map((point) => {
    const { node, intensity, gflops } = point;
    const share = `${((100 * gflops) / reachable(intensity)).toFixed(0)} % of the roof`;
    const title = `${node.operator} ${node.name}: ${msText(node.ms)}, ${short(gflops)} GFLOP/s, ${short(intensity)} FLOP/byte, ${share}`;
    return svg("circle", { class: "point", cx: x.at(intensity), cy: y.at(gflops), r: size(point) }, svg("title", {}, title));
  });
  const [left, right] = [10 ** x.from, 10 ** x.to];
  const corners = [left, Math.min(Math.max(ridge, left), right), right].map(
    (i) => `${x.at(i)},${y.at(Math.max(reachable(i), 10 ** y.from))}`,
  );
  const label = `Roofline: each step's rate against ${short(roof)} GFLOP/s and ${short(gbs)} GB/s, both measured here`;
  const picture = svg(
    "svg",
    { id: "roofline", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": label },
    ...axes(x, y),
    svg("polyline", { class: "roof", points: corners.join(" ") }),
    ...dots,
  );
  return html("section", {}, html("h2", {}, label), picture);
}

function axes(x: Scale, y: Scale): SVGElement[] {
  const [bottom, left] = [HEIGHT - MARGIN.bottom, MARGIN.left];
  const down = powers(x).flatMap((value) => [
    svg("line", { class: "axis", x1: x.at(value), x2: x.at(value), y1: MARGIN.top, y2: bottom }),
    svg("text", { class: "soft", x: x.at(value), y: bottom + 18, "text-anchor": "middle" }, String(value)),
  ]);
  const across = powers(y).flatMap((value) => [
    svg("line", { class: "axis", x1: left, x2: WIDTH - MARGIN.right, y1: y.at(value), y2: y.at(value) }),
    svg("text", { class: "soft", x: left - 8, y: y.at(value), "text-anchor": "end", "dominant-baseline": "central" }, String(value)),
  ]);
  return [
    ...down,
    ...across,
    svg("text", { class: "soft", x: (left + WIDTH) / 2, y: HEIGHT - 8, "text-anchor": "middle" }, "operations per byte"),
    svg(
      "text",
      {
        class: "soft",
        x: 14,
        y: (MARGIN.top + bottom) / 2,
        "text-anchor": "middle",
        transform: `rotate(-90 14 ${(MARGIN.top + bottom) / 2})`,
      },
      "GFLOP/s",
    ),
  ];
}
