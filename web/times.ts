// Times of a network's nodes → a picture of bars, the slowest first.
import { msText } from "../src/cli/units.ts";
import type { NodeTime } from "../src/web/index.ts";
import { html, svg } from "./dom.ts";

const SHOWN = 20;
const [WIDTH, ROW, LABEL, TIME] = [900, 20, 330, 80];
const LONGEST_NAME = 46;

const clip = (text: string): string => (text.length <= LONGEST_NAME ? text : `${text.slice(0, LONGEST_NAME - 1)}…`);

export function timesPlot(nodes: readonly NodeTime[]): HTMLElement {
  const slowest = nodes.toSorted((a, b) => b.ms - a.ms).slice(0, SHOWN);
  const totalMs = nodes.reduce((sum, { ms }) => sum + ms, 0);
  const longest = Math.max(slowest[0]?.ms ?? 0, 1e-6);
  const rows = slowest.map((node, i) => {
    const middle = i * ROW + ROW / 2;
    const length = ((WIDTH - LABEL - TIME) * node.ms) / longest;
    const name = `${node.operator} ${node.name}`;
    return svg(
      "g",
      { "data-node": node.name },
      svg("title", {}, `${name}: ${msText(node.ms)}, output ${node.shape.join("×")}`),
      svg("text", { x: LABEL - 8, y: middle, "text-anchor": "end", "dominant-baseline": "central" }, clip(name)),
      svg("rect", { class: "bar", x: LABEL, y: i * ROW + 3, width: length.toFixed(1), height: ROW - 6, rx: 2 }),
      svg("text", { class: "soft", x: LABEL + length + 6, y: middle, "dominant-baseline": "central" }, msText(node.ms)),
    );
  });
  const label = `Times of the ${slowest.length} slowest of ${nodes.length} steps, ${msText(totalMs)} in all`;
  const viewBox = `0 0 ${WIDTH} ${slowest.length * ROW}`;
  const picture = svg("svg", { id: "times", viewBox, role: "img", "aria-label": label }, ...rows);
  return html("section", {}, html("h2", {}, label), picture);
}
