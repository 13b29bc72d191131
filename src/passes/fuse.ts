// Gathers nodes into Groups, each of which becomes one kernel: anchors with their epilogues, and regions of nodes with readers.
import { type Graph, makeNode, type Node, type Pass, type Value } from "../ir/graph.ts";
import { groupOf, regionInputs } from "./group_body.ts";
import { growLowered, isReshape } from "./lowered_region.ts";
import { growRegion, type Region } from "./region.ts";
import { type Uses, usesOf } from "./uses.ts";

export interface FuseOptions {
  /** Nodes that a hand-scheduled kernel computes. Default: kind "contract". */
  readonly anchors?: (node: Node) => boolean;
  /** Memory is what kernels wait for: 16-bit results of anchors are stored as such, and views, wider forms and masks are made again by all that read them. */
  readonly rereads?: boolean;
}

/** What is computed as one, by the node whose output it gives. */
type Plan = ReadonlyMap<Node, Region>;

/** May join a generated kernel. */
const isLowered = (node: Node): boolean =>
  node.op.lower !== undefined && node.outputs.length === 1 && node.op.kind !== "source" && node.op.kind !== "contract";

/** The regions of all anchors; later ones first, so that a sum of two is computed where the second is. */
function anchorRegions(
  uses: Uses,
  position: ReadonlyMap<Node, number>,
  isAnchor: (node: Node) => boolean,
  rereads: boolean,
): Map<Node, Region> {
  const regions = new Map<Node, Region>();
  const taken = new Set<Node>();
  const isEligible = (node: Node) => node.op.kind === "map" && isLowered(node) && !taken.has(node) && !isAnchor(node);
  for (const anchor of uses.order.toReversed()) {
    const region = isAnchor(anchor) ? growRegion(anchor, uses, position, isEligible, rereads) : null;
    if (!region) continue;
    for (const member of region.members) taken.add(member);
    regions.set(region.output.node, region);
  }
  return regions;
}

/** Decides backwards from the outputs, so that it is known who needs a value in memory when its node is reached. */
function planRegions(graph: Graph, uses: Uses, isAnchor: (node: Node) => boolean, rereads: boolean): Plan {
  const position = new Map(uses.order.map((node, i) => [node, i]));
  const plan = anchorRegions(uses, position, isAnchor, rereads);
  const taken = new Set([...plan.values()].flatMap((r) => r.members));
  const needed = new Set<Value>(graph.outputs.map((o) => o.value));
  const stored = new Set<Node>();
  const context = {
    uses,
    position,
    isFree: (node: Node) => isLowered(node) && !taken.has(node) && !isAnchor(node),
    isNeeded: (value: Value) => needed.has(value),
    rereads,
  };
  for (const node of uses.order.toReversed()) {
    if (!node.outputs.some((o) => needed.has(o)) || stored.has(node)) continue;
    if (context.isFree(node) && !isReshape(node)) plan.set(node, growLowered(node, context));
    const region = plan.get(node);
    for (const { node } of region?.also ?? []) stored.add(node);
    for (const v of region ? regionInputs(region) : node.inputs) if (v) needed.add(v);
  }
  return plan;
}

export function fuse({ anchors = (node) => node.op.kind === "contract", rereads = false }: FuseOptions = {}): Pass {
  return {
    name: "fuse",
    run(graph: Graph): Graph {
      const uses = usesOf(graph);
      const plan = planRegions(graph, uses, anchors, rereads);
      const made = new Map<Value, Value>();
      // A value inside a region has no new value of its own; nothing outside asks for one.
      const now = (old: Value): Value => made.get(old) ?? old;
      const inside = new Set([...plan].flatMap(([last, { members }]) => members.filter((m) => m !== last && !plan.has(m))));
      for (const node of uses.order) {
        const region = plan.get(node);
        if (region) for (const [i, v] of groupOf(region, now).outputs.entries()) made.set([region.output, ...region.also][i], v);
        else if (!inside.has(node)) for (const [i, o] of renewed(node, now).outputs.entries()) made.set(node.outputs[i], o);
      }
      return { inputs: graph.inputs, outputs: graph.outputs.map(({ name, value }) => ({ name, value: now(value) })) };
    },
  };
}

/** The node on new inputs. */
function renewed(node: Node, now: (old: Value) => Value): Node {
  const inputs = node.inputs.map((v) => v && now(v));
  if (inputs.every((v, i) => v === node.inputs[i])) return node;
  return makeNode(node.op, inputs, node.attrs, node.outputs.map((o) => o.type), node.from); // biome-ignore format: short
}
