// Layouts by their costs: the cheapest of all choices, and the rule's where nothing is gained.
import { describe, expect, it } from "vitest";
import { type Node, topologicalOrder, type Value } from "../../src/ir/graph.ts";
import { elementCount } from "../../src/ir/tensor.ts";
import { layout, layoutPlan } from "../../src/passes/layout.ts";
import type { LayoutCosts } from "../../src/passes/layout_plan.ts";
import { FlowNetwork } from "../../src/passes/min_cut.ts";
import { gpuLayoutCosts } from "../../src/run/layout_costs.ts";
import { randomNumbers } from "../run/devices.ts";
import { f32, graphOf, ints, op, textAfter, weights } from "./support.ts";

const x = f32("x", 1, 4, 6, 6);
const conv = (v: Value, seed = 1) => op("Conv", [v, weights(seed, 4, v.type.shape[1], 3, 3)], { pads: [1, 1, 1, 1] });
const pool = (v: Value) => op("MaxPool", [v], { kernel_shape: [3, 3], pads: [1, 1, 1, 1] });
const costs = (move: number, loss: number): LayoutCosts => ({ move: () => move, loss: () => loss });
const names = (y: Value, given: LayoutCosts) => textAfter(graphOf(y), layout(given)).map((line) => line.split("(")[0]);

describe("layouts by their costs", () => {
  it("a node alone moves its image only where it gains more than both ways cost", () => {
    expect(names(pool(x), costs(10, 18))).toEqual(["MaxPool"]);
    expect(names(pool(x), costs(10, 22))).toEqual(["Transpose", "MaxPool", "Transpose"]);
  });
  it("nodes that follow each other share what moving costs", () => {
    const y = conv(op("Relu", [conv(op("Sigmoid", [x]))]), 2);
    expect(names(y, costs(10, 6))).toEqual(["Sigmoid", "Conv", "Relu", "Conv"]);
    expect(names(y, costs(10, 11))).toEqual(["Sigmoid", "Transpose", "Conv", "Relu", "Conv", "Transpose"]);
  });
  it("an image that is read in both layouts is moved once", () => {
    const both = op("Sigmoid", [x]);
    const y = op("Add", [op("Add", [conv(both, 1), conv(both, 2)]), conv(both, 3)]);
    expect(layoutPlan(graphOf(y), costs(10, 9))?.bill).toMatchObject({ ns: 20, losses: [] });
    expect(layoutPlan(graphOf(y), costs(10, 4))?.bill).toMatchObject({ ns: 12, moves: [] });
  });
  it("what the file transposes itself is counted once, and not at all where it is undone", () => {
    const last = f32("x", 1, 6, 6, 4);
    const y = op("Transpose", [conv(op("Transpose", [last], { perm: [0, 3, 1, 2] }))], { perm: [0, 2, 3, 1] });
    const plan = layoutPlan(graphOf(y), costs(10, 5))!;
    expect([plan.bill.ns, plan.untouched().ns]).toEqual([0, 25]);
  });
  it("graphs that gain nothing have no plan", () => {
    expect(layoutPlan(graphOf(op("Relu", [x])), costs(1, 1))).toBeNull();
  });
  it("GPUs leave a pool alone, and move images for convolutions", () => {
    const images = f32("x", 1, 64, 56, 56);
    const windows = op("Conv", [images, weights(1, 64, 64, 3, 3)], { pads: [1, 1, 1, 1] });
    expect(names(pool(images), gpuLayoutCosts)).toEqual(["MaxPool"]);
    expect(names(windows, gpuLayoutCosts)).toEqual(["Transpose", "Conv", "Transpose"]);
  });
});

/** Convolutions, pools and elementwise nodes in a random order, on random earlier values; nodes that take no other layout among them. */
function randomGraph(seed: number) {
  const next = randomNumbers(seed, 200).map((v) => Math.abs(v));
  let at = 0;
  const pick = <T>(list: readonly T[]): T => list[Math.floor(next[at++ % 200] * list.length) % list.length];
  const values: Value[] = [x, op("Relu", [x])];
  const makers = [
    () => conv(pick(values), at),
    () => pool(pick(values)),
    () => op("Add", [pick(values), pick(values)]),
    () => op("Relu", [pick(values)]),
    () => op("Reshape", [op("Reshape", [pick(values), ints(1, 12, 12)]), ints(1, 4, 6, 6)]),
  ];
  for (let i = 0; i < 8; i++) values.push(pick(makers)());
  return graphOf(values[values.length - 1], pick(values));
}

/** The least cost over all choices, each counted by itself. */
function leastOf(graph: ReturnType<typeof graphOf>, { move, loss }: LayoutCosts): number {
  const nodes = topologicalOrder(graph).filter(({ op: { kind } }) => kind !== "source");
  const free = nodes.filter((n) => n.op.name !== "Reshape");
  const ends = new Set(graph.outputs.map((o) => o.value));
  let least = Number.POSITIVE_INFINITY;
  for (let bits = 0; bits < 2 ** free.length; bits++) {
    const isLast = (n: Node) => free.includes(n) && ((bits >> free.indexOf(n)) & 1) === 1;
    let cost = 0;
    for (const n of free) if (n.op.prefersChannelsLast && !isLast(n)) cost += loss(n);
    for (const v of new Set(nodes.flatMap((n) => [...n.inputs, ...n.outputs]))) {
      if (!v || v.node.op.name === "Constant" || v.type.shape.length < 3) continue;
      const wanted = [...nodes.filter((n) => n.inputs.includes(v)).map(isLast), ...(ends.has(v) ? [false] : [])];
      if (wanted.some((w) => w !== isLast(v.node))) cost += move(v.type, !isLast(v.node));
    }
    least = Math.min(least, cost);
  }
  return least;
}

it("no other choice costs less", () => {
  let better = 0;
  for (let seed = 1; seed <= 40; seed++) {
    const graph = randomGraph(seed);
    const given: LayoutCosts = {
      move: (_, toLast) => (toLast ? 8 : 11),
      loss: (n) => (n.op.name === "Conv" ? 3 + (seed % 5) * 4 : 2 + (seed % 3) * 5),
    };
    const plan = layoutPlan(graph, given);
    if (!plan) continue;
    const least = leastOf(graph, given);
    expect(plan.bill.ns).toBeLessThanOrEqual(least / 0.95); // as exactly as costs are known
    expect(plan.bill.ns).toBeGreaterThanOrEqual(least);
    if (plan.bill.ns < plan.uncounted.ns) better++;
    expect(textAfter(graph, layout(given)).filter((line) => line.startsWith("Transpose"))).toHaveLength(plan.bill.moves.length);
  }
  expect(better).toBeGreaterThan(5);
});

it("the cheapest cut, by trying all", () => {
  for (let seed = 1; seed <= 20; seed++) {
    const count = 8;
    const numbers = randomNumbers(seed, 3 * 24).map((v) => Math.floor(Math.abs(v) * 2 * count) % count);
    const arcs = Array.from({ length: 24 }, (_, i) => [numbers[3 * i], numbers[3 * i + 1], numbers[3 * i + 2]] as const);
    const net = new FlowNetwork();
    for (let v = 0; v < count; v++) net.vertex();
    for (const [from, to, cost] of arcs) net.arc(from, to, cost);
    const costOf = (part: readonly boolean[]) => arcs.reduce((n, [from, to, cost]) => n + (part[from] && !part[to] ? cost : 0), 0);
    let least = Number.POSITIVE_INFINITY;
    for (let bits = 0; bits < 2 ** count; bits++) {
      const part = Array.from({ length: count }, (_, v) => ((bits >> v) & 1) === 1);
      if (part[0] && !part[count - 1]) least = Math.min(least, costOf(part));
    }
    const found = net.cut(0, count - 1);
    expect([found[0], found[count - 1]]).toEqual([true, false]);
    expect(costOf(found)).toBe(least);
  }
});

it("sizes are those of the images", () => {
  const moved = layoutPlan(graphOf(conv(x)), { move: ({ shape }) => elementCount(shape), loss: () => 1e9 });
  expect(moved?.bill.moves.map(({ ns, toLast }) => [ns, toLast])).toEqual([[144, true], [144, false]]); // biome-ignore format: one idea
});
