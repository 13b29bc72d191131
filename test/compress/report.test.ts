// The page of heddle prune: a picture draws what it is given, where it belongs, and loads nothing.
import { expect, test } from "vitest";
import { niceTicks } from "../../src/cli/line_chart.ts";
import { type Report, reportPage, sweepCsv } from "../../src/cli/prune_report.ts";

const report: Report = {
  title: "Pruned: <a & b>",
  facts: [["method", "magnitude"]],
  layers: [{ name: "w", operator: "Conv", shape: [8, 4, 1, 1], weights: 32, density: 0.25, error: null }],
  sweep: [
    { sparsity: 0, meanCosine: 1, sameClass: 1, ms: 4 },
    { sparsity: 0.5, meanCosine: 0.99, sameClass: 0.96, ms: 3 },
    { sparsity: 0.75, meanCosine: 0.95, sameClass: 0.9, ms: 2 },
    { sparsity: 1, meanCosine: 0.5, sameClass: 0.2, ms: 1 },
  ].map((p) => ({ ...p, isWritten: p.sparsity === 0.75, isTaught: false })),
  bench: [],
  losses: [],
};

/** Of each picture its title, and its lines as points. */
const plotsOf = (page: string): { title: string; lines: [x: number, y: number][][] }[] =>
  [...page.matchAll(/<svg[\s\S]*?<\/svg>/g)].map(([svg]) => ({
    title: /font-weight="bold">([^<]*)</.exec(svg)![1], // each has one
    lines: [...svg.matchAll(/<polyline points="([^"]*)"/g)].map(([, points]) =>
      points.split(" ").map((point) => point.split(",").map(Number) as [number, number]),
    ),
  }));

test("agreement and time against sparsity", () => {
  const [agreement, time, ...others] = plotsOf(reportPage(report));
  expect(others).toEqual([]);
  expect(agreement.title).toBe("Agreement against sparsity");
  expect(agreement.lines).toHaveLength(2);
  expect(time.title).toBe("Time against sparsity, ms");
  const [pruned, dense] = time.lines;
  expect(pruned).toHaveLength(4);
  // Sparsity to the right, evenly; 4 ms above 1 ms, and lower points lie further down.
  const [left, middle, later, right] = pruned.map(([x]) => x);
  expect(middle).toBeCloseTo((left + right) / 2, 0);
  expect(later).toBeCloseTo(left + 0.75 * (right - left), 0);
  expect(pruned.map(([, y]) => y)).toEqual(pruned.map(([, y]) => y).toSorted((a, b) => a - b));
  expect(pruned[2][1] - pruned[1][1]).toBeCloseTo(pruned[3][1] - pruned[2][1], 0);
  // The dense network is a level at its own time.
  expect(dense).toEqual([pruned[0], [right, pruned[0][1]]]);
  for (const line of [...agreement.lines, ...time.lines])
    for (const [x, y] of line) {
      expect(x).toBeGreaterThanOrEqual(0);
      expect(x).toBeLessThanOrEqual(720);
      expect(y).toBeGreaterThanOrEqual(0);
      expect(y).toBeLessThanOrEqual(300);
    }
});

test("a network that was taught stands apart from those that were not; it is the one whose time is told", () => {
  const sweep = report.sweep.map((p) => ({ ...p, isTaught: p.isWritten }));
  const page = reportPage({ ...report, sweep });
  const [agreement, time] = plotsOf(page);
  expect(agreement.lines.map((line) => line.length)).toEqual([3, 3]);
  expect(page.match(/<rect [^>]*><title>/g)).toHaveLength(2);
  expect(page).toContain("<title>same class, distilled: 0.9 at 75 %</title>");
  expect(time.lines[0]).toHaveLength(4);
  expect(page).toContain("<dt>time; dense: 4.00 ms</dt><dd>2.00 ms (2.00×)</dd>");
});

test.each([
  [
    [0, 1],
    [0, 0.2, 0.4, 0.6, 0.8, 1],
  ],
  [
    [0, 76.3],
    [0, 20, 40, 60, 80],
  ],
  [
    [0.91, 1],
    [0.9, 0.92, 0.94, 0.96, 0.98, 1],
  ],
  [
    [3, 3],
    [3, 4],
  ],
  [
    [0, 0],
    [0, 0.2],
  ],
])("round numbers around %j", (values, ticks) => expect(niceTicks(values)).toEqual(ticks));

test("the page needs nothing else, and shows names as they are", () => {
  const page = reportPage(report);
  expect(page).not.toMatch(/<script|<link|<img|https?:\/\/(?!www\.w3\.org)/);
  expect(page).toContain("Pruned: &lt;a &amp; b&gt;");
  expect(page).toContain("<td>8×4×1×1</td>");
  expect(page).not.toMatch(/NaN|Infinity|undefined/);
});

test("what there is nothing of has no picture", () => {
  expect(plotsOf(reportPage({ ...report, sweep: [] }))).toEqual([]);
  const blind = report.sweep.map((p) => ({ ...p, meanCosine: null, sameClass: null }));
  expect(plotsOf(reportPage({ ...report, sweep: blind })).map(({ title }) => title)).toEqual(["Time against sparsity, ms"]);
  const alone = reportPage({ ...report, sweep: report.sweep.slice(0, 1), losses: [1, 0.5, 0.25] });
  expect(plotsOf(alone).map(({ title }) => title)).toEqual(["Agreement against sparsity", "Time against sparsity, ms", "Distillation"]);
  expect(alone).not.toMatch(/NaN|Infinity/);
});

test("networks that heddle bench timed are a line of their own, by sparsity", () => {
  const bench = [0.9, 0.5].map((sparsity) => ({ model: "m.onnx", sparsity, ms: 5 * (1 - sparsity) }));
  const [time] = plotsOf(reportPage({ ...report, bench })).filter(({ title }) => title.startsWith("Time"));
  expect(time.lines).toHaveLength(3);
  expect(time.lines[2][0][0]).toBeLessThan(time.lines[2][1][0]);
});

test("the sweep as a table: a line for each network, nothing where nothing was compared", () => {
  const [dense, , written] = report.sweep;
  expect(sweepCsv([dense, { ...written, meanCosine: null, sameClass: null }])).toBe(
    "sparsity,meanCosine,sameClass,ms,isWritten,isTaught\n0,1,1,4,false,false\n0.75,,,2,true,false\n",
  );
});
