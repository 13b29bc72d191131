// What people see of a run: the bar, the curve in the terminal, the picture, the page, the logs.
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { curvePage, curveSvg } from "../../src/train/curve_svg.ts";
import { drawCurve } from "../../src/train/curve_text.ts";
import { openCsv, openJsonl } from "../../src/train/log.ts";
import { bar, clock, progressLine } from "../../src/train/progress_line.ts";
import type { RunEvent } from "../../src/train/run.ts";

test("the bar fills in eighths", () => {
  expect(bar(0, 4)).toBe("░░░░");
  expect(bar(0.5, 4)).toBe("██░░");
  expect(bar(0.28125, 4)).toBe("█▏░░");
  expect(bar(1, 4)).toBe("████");
});

test("times", () => {
  expect([5, 187.4, 3729, Number.POSITIVE_INFINITY].map(clock)).toEqual(["0:05", "3:07", "1:02:09", "?"]);
});

test("one line says where a run is", () => {
  const line = progressLine(
    { kind: "step", epoch: 2, step: 50, steps: 100, loss: 0.43218, stepsPerSecond: 12.34, waiting: 0.0321, secondsLeft: 61 },
    4,
  );
  expect(line).toBe("epoch 2/4 ██████████░░░░░░░░░░ 50/100  loss 0.4322  12.3 steps/s  data 3.2 %  1:01 left");
});

test("a straight line in braille", () => {
  const points = [0, 1, 2, 3].map((x) => ({ x, y: 3 - x }));
  expect(drawCurve("loss", points, { columns: 13, rows: 2 })).toBe(["loss", "      3 ┤⠑⢄⠀⠀", "      0 ┤⠀⠀⠑⢄", "         0  3"].join("\n"));
  expect(drawCurve("loss", [])).toBe("");
  expect(drawCurve("one", [{ x: 7, y: 1 }], { columns: 13, rows: 2 })).toContain("⡀");
});

test("losses over several decades are drawn by their logarithms", () => {
  const points = [1000, 100, 10, 1].map((y, x) => ({ x, y }));
  const lines = (given: typeof points) => drawCurve("", given, { columns: 13, rows: 2 }).split("\n").slice(1, 3).map((l) => l.slice(9)); // biome-ignore format: short
  expect(lines(points)).toEqual(lines(points.map(({ x, y }) => ({ x, y: Math.log10(y) }))));
});

const history = {
  losses: [1, 2, 3, 4].map((step) => ({ step, loss: 2 / step })),
  epochs: [2, 4].map((step, i) => ({ epoch: i + 1, step, metrics: { accuracy: 0.5 + step / 10 } })),
};

test("the picture has both curves, the page loads nothing", () => {
  const svg = curveSvg("a <b>", history);
  expect(svg.match(/<polyline /g)).toHaveLength(2);
  expect(svg.match(/<circle /g)).toHaveLength(2);
  expect(svg).toContain("a &lt;b&gt;");
  expect(svg).not.toMatch(/NaN|Infinity|undefined/);
  expect(svg).toContain("■ loss<");
  const judged = curveSvg("both", { ...history, epochs: history.epochs.map((epoch) => ({ ...epoch, metrics: { loss: 1 } })) });
  expect(judged).toContain("■ training loss<");
  const page = curvePage("run", history, [["digest", "abc"]]);
  expect(page).toContain("<td>0.9000</td>");
  expect(page).toContain("<td>abc</td>");
  expect(page).not.toMatch(/(?:src|href)=|@import|url\(/);
  expect(curveSvg("empty", { losses: [], epochs: [] })).toContain("</svg>");
});

test("logs: one line for each mean of losses and each result; a resumed run appends", () => {
  const folder = mkdtempSync(join(tmpdir(), "heddle-log-"));
  const events: RunEvent[] = [
    { kind: "step", epoch: 1, step: 1, steps: 2, loss: 1, stepsPerSecond: 1, waiting: 0, secondsLeft: 1 },
    { kind: "loss", epoch: 1, step: 2, loss: 0.5, learningRate: 0.01, seconds: 1.5 },
    { kind: "epoch", epoch: 1, step: 2, loss: 0.5, seconds: 1.5, metrics: { accuracy: 0.75 } },
    { kind: "save", step: 2, path: "x" },
  ];
  try {
    for (const isContinued of [false, false, true]) {
      const logs = [openCsv(join(folder, "sub/a.csv"), isContinued), openJsonl(join(folder, "a.jsonl"), isContinued)];
      for (const log of logs) for (const event of events) log.write(event);
    }
    const rows = ["1,2,0.5,0.01,1.500,,", "1,2,0.5,,1.500,accuracy,0.75"];
    expect(readFileSync(join(folder, "sub/a.csv"), "utf8").trim().split("\n")).toEqual([
      "epoch,step,loss,learning_rate,seconds,metric,value",
      ...rows,
      ...rows,
    ]);
    const lines = readFileSync(join(folder, "a.jsonl"), "utf8").trim().split("\n").map((l) => JSON.parse(l) as RunEvent); // biome-ignore format: short
    expect(lines).toEqual([events[1], events[2], events[1], events[2]]);
    expect(() => openCsv(join(folder, "a.jsonl/b.csv"), false)).toThrow("cannot be written");
  } finally {
    rmSync(folder, { recursive: true });
  }
});
