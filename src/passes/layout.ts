// Moves the channels innermost where that costs least: operators work on permuted values, and a Transpose stays where the two layouts meet.
import { apply, type Graph, makeNode, type Node, type Op, type Pass, topologicalOrder, type Value } from "../ir/graph.ts";
import { elementCount } from "../ir/tensor.ts";
import { evaluateNode } from "../ops/evaluate.ts";
import { constantOf, constantValue } from "../ops/source.ts";
import { type LayoutCosts, type LayoutPlan, planLayouts } from "./layout_plan.ts";
import { inversePerm, reshaped, transposed } from "./view_algebra.ts";

/** Channels (axis 1) to the end. */
const channelsLast = (rank: number): number[] => [0, ...Array.from({ length: rank - 2 }, (_, i) => i + 2), 1];

const MIN_RANK = 3;

/** Values of the old graph in the new one: as they were, and with permuted axes; each is made when it is first asked for. */
interface Layouts {
  isPermuted(old: Value): boolean;
  kept(old: Value): Value;
  permuted(old: Value): Value;
  set(old: Value, now: Value, isPermuted: boolean): void;
}

function layoutsOf(): Layouts {
  const keptOnes = new Map<Value, Value>();
  const permutedOnes = new Map<Value, Value>();
  const order = (v: Value) => channelsLast(v.type.shape.length);
  const once = (map: Map<Value, Value>, old: Value, make: () => Value): Value => {
    const now = map.get(old) ?? make();
    map.set(old, now);
    return now;
  };
  // Values of earlier nodes are in one of the maps.
  const kept = (old: Value): Value => once(keptOnes, old, () => transposed(permutedOnes.get(old)!, inversePerm(order(old)), old.node.from));
  return {
    kept,
    permuted: (old) => once(permutedOnes, old, () => folded(transposed(kept(old), order(old), old.node.from))),
    isPermuted: (old) => permutedOnes.has(old),
    set: (old, now, isPermuted) => (isPermuted ? permutedOnes : keptOnes).set(old, now),
  };
}

/** A transposed constant is a constant. */
function folded(value: Value): Value {
  const tensor = constantOf(value.node.inputs[0]);
  return tensor ? constantValue(evaluateNode(value.node, [tensor])[0], value.node.from) : value;
}

const elements = (values: readonly Value[]): number => values.reduce((n, v) => n + elementCount(v.type.shape), 0);

/** Most of what the node reads is there with permuted axes. */
function followsPermuted(node: Node, isPermuted: (v: Value) => boolean): boolean {
  const rank = rankOf(node);
  const data = node.inputs.filter((v): v is Value => v !== null && v.type.shape.length === rank && !constantOf(v));
  const permuted = data.filter(isPermuted);
  return permuted.length > 0 && 2 * elements(permuted) >= elements(data);
}

/** Axes of the images that a node works on. */
const rankOf = ({ op, inputs, outputs }: Node): number => (op.kind === "map" ? outputs[0] : inputs[0])?.type.shape.length ?? 0;

/** An elementwise node on permuted inputs. Inputs with fewer axes get leading ones first; single elements broadcast as they are. */
function permuteMap(node: Node, rank: number, layouts: Pick<Layouts, "kept" | "permuted">): readonly Value[] {
  const inputs = node.inputs.map((v) => {
    if (!v) return null;
    const { shape } = v.type;
    if (elementCount(shape) === 1 && shape.length < rank) return layouts.kept(v);
    if (shape.length === rank) return layouts.permuted(v);
    const full = reshaped(layouts.kept(v), [...new Array<number>(rank - shape.length).fill(1), ...shape], v.node.from);
    return folded(transposed(full, channelsLast(rank), v.node.from));
  });
  return apply(node.op, inputs, node.attrs, node.from);
}

/** The node's outputs with permuted axes, or undefined where it cannot. */
function permuteNode(node: Node, layouts: Pick<Layouts, "kept" | "permuted">): readonly Value[] | undefined {
  const { op } = node;
  const rank = rankOf(node);
  if (rank < MIN_RANK) return undefined;
  if (op.permute) {
    const context = {
      order: channelsLast(rank),
      permuted: (i: number) => layouts.permuted(node.inputs[i]!),
      kept: (i: number) => (node.inputs[i] ? layouts.kept(node.inputs[i]) : null),
    };
    return op.permute(context, node);
  }
  return isPlainMap(op) ? permuteMap(node, rank, layouts) : undefined;
}

/** An elementwise operator that names an axis does more than broadcast: it must say itself how it permutes. */
const isPlainMap = ({ kind, attrs }: Op): boolean => kind === "map" && !("axis" in attrs);

/** What the pass decides by, and why; null: nothing gains. */
export const layoutPlan = (graph: Graph, costs: LayoutCosts): LayoutPlan | null =>
  planLayouts(graph, costs, { order: channelsLast, permute: permuteNode, follows: followsPermuted });

/** With costs the choice of least cost; without, operators that prefer channels last and all that follows them. */
export const layout = (costs?: LayoutCosts): Pass => ({
  name: "channels last",
  run(graph: Graph): Graph {
    const plan = costs ? layoutPlan(graph, costs) : null;
    const layouts = layoutsOf();
    const isWanted = (node: Node): boolean =>
      plan ? plan.isPermuted(node) : node.op.prefersChannelsLast === true || followsPermuted(node, layouts.isPermuted);
    for (const node of topologicalOrder(graph)) {
      const permuted = isWanted(node) ? permuteNode(node, layouts) : undefined;
      const now = permuted ?? keep(node, layouts);
      const isPermuted = permuted !== undefined && !node.op.keepsOutputs;
      for (const [i, old] of node.outputs.entries()) layouts.set(old, now[i], isPermuted);
    }
    return {
      inputs: graph.inputs.map((v) => layouts.kept(v)),
      outputs: graph.outputs.map(({ name, value }) => ({ name, value: layouts.kept(value) })),
    };
  },
});

/** The node as it is, on inputs as they were. */
function keep(node: Node, layouts: Layouts): readonly Value[] {
  const inputs = node.inputs.map((v) => v && layouts.kept(v));
  if (inputs.every((v, i) => v === node.inputs[i])) return node.outputs;
  return makeNode(node.op, inputs, node.attrs, node.outputs.map((o) => o.type), node.from).outputs; // biome-ignore format: short
}
