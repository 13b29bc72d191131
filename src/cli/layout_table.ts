// What decided between channels first and channels last: rows for JSON, and a table.
import type { Graph, Node } from "../ir/graph.ts";
import type { AnyProgram, LoadOptions } from "../model.ts";
import { layoutPlan } from "../passes/layout.ts";
import type { LayoutBill, LayoutCosts } from "../passes/layout_plan.ts";
import { tensorBytes } from "../run/cost.ts";
import type { Outcome } from "./command.ts";
import { rounded } from "./statistics.ts";
import { formatPairs, formatTable } from "./table.ts";
import { bytesText, short, typeText } from "./units.ts";

/** Remembers the graph that the layout pass is given. */
export function watchLayout(): { readonly onPass: NonNullable<LoadOptions["onPass"]>; before(): Graph | undefined } {
  let [last, before]: (Graph | undefined)[] = [];
  return {
    before: () => before,
    onPass(name, graph) {
      if (name === "channels last") before = last;
      last = graph;
    },
  };
}

interface Row {
  readonly node: string;
  readonly operator: string;
  readonly layout: "channels last" | "channels first";
  /** What it would lose with channels first, where costs are counted. */
  readonly lossUs?: number;
}
interface Move {
  readonly value: string;
  readonly type: string;
  readonly to: Row["layout"];
  readonly bytes: number;
  readonly us: number;
}

const us = (ns: number): number => rounded(ns / 1000);
const name = (node: Node): string => node.from || node.op.name;
const moveOf = ({ value, toLast, ns }: LayoutBill["moves"][number]): Move => ({
  value: name(value.node),
  type: typeText(value.type),
  to: toLast ? "channels last" : "channels first",
  bytes: 2 * tensorBytes(value.type),
  us: us(ns),
});

/** The rule of devices that count nothing. */
const UNCOUNTED: LayoutCosts = { move: () => 0, loss: () => 0 };

/** The table that the layout pass of this program decided by. */
export function layoutOutcome(program: AnyProgram, before: Graph | undefined): Outcome {
  const costs = program.schedule.backend.layoutCosts;
  const plan = before ? layoutPlan(before, costs ?? UNCOUNTED) : null;
  if (!plan) return { json: { stage: "layout", nodes: [], moves: [] }, text: () => "no node works faster with channels last" };
  const nodes = plan.wishes.map(({ node, ns }): Row => ({ node: name(node), operator: node.op.name, layout: plan.isPermuted(node) ? "channels last" : "channels first", ...(costs && { lossUs: us(ns) }) })); // biome-ignore format: one idea
  if (!costs) {
    const table = (): string => formatTable(["node", "operator", "works with"], nodes.map((n) => [n.node, n.operator, n.layout]), { left: [0, 1, 2] }); // biome-ignore format: one idea
    return { json: { stage: "layout", nodes, moves: [] }, text: () => `${table()}\n\nwhat prefers channels last has them, and what follows it: costs are counted on GPUs` }; // biome-ignore format: one idea
  }
  const moves = plan.bill.moves.map(moveOf);
  const totals = { chosenUs: us(plan.bill.ns), uncountedUs: us(plan.uncounted.ns), untouchedUs: us(plan.untouched().ns) };
  const text = (): string =>
    [
      formatTable(["node", "operator", "works with", "µs more with channels first"], nodes.map((n) => [n.node, n.operator, n.layout, short(n.lossUs ?? 0)]), { left: [0, 1, 2] }), // biome-ignore format: one idea
      ...(moves.length > 0 ? [formatTable(["moved", "type", "to", "read and written", "µs"], moves.map((m) => [m.value, m.type, m.to, bytesText(m.bytes), short(m.us)]), { left: [0, 1, 2] })] : ["no image is moved"]), // biome-ignore format: one idea
      formatPairs([
        ["as chosen", `${short(totals.chosenUs)} µs of moves and losses`],
        ["all that prefer it", `${short(totals.uncountedUs)} µs`],
        ["none", `${short(totals.untouchedUs)} µs`],
      ]),
    ].join("\n\n");
  return { json: { stage: "layout", nodes, moves, ...totals }, text };
}
