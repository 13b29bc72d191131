// Which nodes work with channels innermost: the choice of least cost, counting what each node loses in either layout and each image that has to be moved between them.
import { type Graph, type Node, type TensorType, topologicalOrder, type Value } from "../ir/graph.ts";
import { elementCount } from "../ir/tensor.ts";
import { OPS } from "../ops/index.ts";
import { constantOf, input } from "../ops/source.ts";
import { FlowNetwork } from "./min_cut.ts";
import { inversePerm, permOf } from "./view_algebra.ts";

/** Nanoseconds on the device that a graph is compiled for. */
export interface LayoutCosts {
  /** Of an image that is moved from one layout to the other. */
  move(type: TensorType, toLast: boolean): number;
  /** More than with channels innermost, of an operator that prefers them there. */
  loss(node: Node): number;
}

/** What is known of nodes before. */
export interface LayoutRules {
  /** Channels to the end. */
  order(rank: number): readonly number[];
  /** The node's outputs from inputs as they are and with permuted axes; undefined: it has none. */
  permute(node: Node, images: { kept(v: Value): Value; permuted(v: Value): Value }): readonly Value[] | undefined;
  /** By the rule that counts nothing. */
  follows(node: Node, isPermuted: (v: Value) => boolean): boolean;
}

/** An image that is moved. */
export interface LayoutMove {
  readonly value: Value;
  readonly toLast: boolean;
  readonly ns: number;
}

/** What a choice costs. */
export interface LayoutBill {
  readonly moves: readonly LayoutMove[];
  readonly losses: readonly { readonly node: Node; readonly ns: number }[];
  readonly ns: number;
}

export interface LayoutPlan {
  isPermuted(node: Node): boolean;
  readonly bill: LayoutBill;
  /** Operators that prefer channels innermost, with what each would lose. */
  readonly wishes: LayoutBill["losses"];
  /** Of the rule that counts nothing, and of leaving all as it is. */
  readonly uncounted: LayoutBill;
  untouched(): LayoutBill;
}

/** Costs are known no better than this: the rule's choice stays unless another costs less than so much of it. */
const WORTH = 0.95;
const MIN_RANK = 3;

type Chosen = ReadonlySet<Node>;
const TRANSPOSE = OPS.get("Transpose")!; // in the table

/** Null: no node gains anything. */
export function planLayouts(graph: Graph, costs: LayoutCosts, rules: LayoutRules): LayoutPlan | null {
  const nodes = topologicalOrder(graph);
  const sizes = new Sizes(graph, nodes, costs, rules);
  const wishes = nodes.flatMap((node) => (sizes.gains(node) ? [{ node, ns: costs.loss(node) }] : []));
  if (wishes.length === 0) return null;
  const uncounted = ruled(nodes, sizes);
  const billed = (chosen: Chosen): LayoutBill => billOf(sizes, nodes, chosen);
  const rule = billed(uncounted);
  const counted = rule.ns > 0 ? cheapest(sizes, nodes) : uncounted;
  const bill = billed(counted);
  const isWorth = bill.ns < WORTH * rule.ns;
  const planned = isWorth ? counted : uncounted;
  return {
    isPermuted: (node) => planned.has(node),
    bill: isWorth ? bill : rule,
    wishes,
    uncounted: rule,
    untouched: () => billed(new Set()),
  };
}

const rankOf = (v: Value): number => v.type.shape.length;

/** Nodes whose outputs are permuted by the rule that counts nothing. */
function ruled(nodes: readonly Node[], { able, rules }: Sizes): Chosen {
  const chosen = new Set<Node>();
  const isPermuted = (v: Value): boolean => chosen.has(v.node) && !v.node.op.keepsOutputs;
  for (const node of nodes) if (able.has(node) && (node.op.prefersChannelsLast || rules.follows(node, isPermuted))) chosen.add(node);
  return chosen;
}

/** Whether a node works on permuted images: asked with stand-ins for them. */
function canPermute(node: Node, { order, permute }: LayoutRules): boolean {
  const permuted = ({ type: { dtype, shape } }: Value): Value => input("image", { dtype, shape: order(shape.length).map((axis) => shape[axis]) }); // biome-ignore format: short
  return permute(node, { kept: (v) => v, permuted }) !== undefined;
}

/** Costs of one graph's values. */
class Sizes {
  /** Nodes that read a value; null: it is an output of the graph. Constants are known in both layouts. */
  readonly readers = new Map<Value, (Node | null)[]>();
  /** Nodes that work on permuted images as well. */
  readonly able: ReadonlySet<Node>;

  constructor(
    graph: Graph,
    nodes: readonly Node[],
    readonly costs: LayoutCosts,
    readonly rules: LayoutRules,
  ) {
    const read = (v: Value | null, by: Node | null): void => {
      if (!v || rankOf(v) < MIN_RANK || constantOf(v)) return;
      const known = this.readers.get(v);
      if (known) known.push(by);
      else this.readers.set(v, [by]);
    };
    this.able = new Set(nodes.filter((node) => canPermute(node, rules)));
    for (const node of nodes) for (const v of new Set(node.inputs)) read(v, node);
    for (const { value } of graph.outputs) read(value, null);
  }

  /** Whether a node prefers channels innermost and does not have them there yet. */
  gains(node: Node): boolean {
    return node.op.prefersChannelsLast === true && this.able.has(node);
  }

  move(v: Value, toLast: boolean): number {
    return isMoved(v.type.shape, this.rules.order(rankOf(v))) ? this.costs.move(v.type, toLast) : 0;
  }

  /** What a Transpose moves when it reads its input as it is, or with permuted axes, and gives its output as it is, or permuted. */
  turn(node: Node, isFromPermuted: boolean, isToPermuted: boolean): number {
    const [x] = node.inputs as readonly [Value]; // checked by infer
    const order = this.rules.order(rankOf(x));
    let perm = permOf(node.attrs, rankOf(x));
    let { shape } = x.type;
    if (isFromPermuted) {
      shape = order.map((axis) => shape[axis]);
      const inverse = inversePerm([...order]);
      perm = perm.map((axis) => inverse[axis]);
    }
    if (isToPermuted) perm = order.map((axis) => perm[axis]);
    return isMoved(shape, perm) ? this.costs.move(node.outputs[0].type, isToPermuted) : 0;
  }
}

/** Whether elements lie otherwise afterwards. */
function isMoved(shape: readonly number[], perm: readonly number[]): boolean {
  const long = perm.filter((axis) => shape[axis] !== 1);
  return elementCount(shape) > 0 && long.some((axis, i) => i > 0 && axis < long[i - 1]);
}

const isTurn = (node: Node): boolean => node.op === TRANSPOSE && rankOf(node.outputs[0]) >= MIN_RANK;

/** The choice of least cost: the first part of a network's cheapest cut, whose arcs are the costs. */
function cheapest(sizes: Sizes, nodes: readonly Node[]): Chosen {
  const { able, costs } = sizes;
  const net = new FlowNetwork();
  const [last, first] = [net.vertex(), net.vertex()]; // channels last, and as it is
  const vertices = new Map<Node, number>();
  for (const node of nodes) {
    if (!isTurn(node) && !able.has(node)) continue;
    const v = net.vertex();
    vertices.set(node, v);
    if (sizes.gains(node)) net.arc(last, v, costs.loss(node));
    if (isTurn(node)) {
      net.arc(last, v, sizes.turn(node, false, false));
      net.arc(v, first, sizes.turn(node, false, true));
    }
  }
  const vertexOf = (node: Node | null): number => (node && vertices.get(node)) ?? first;
  for (const [value, readers] of sizes.readers) {
    const made = value.node.op.keepsOutputs ? first : vertexOf(value.node);
    // A Transpose takes what it reads in either layout, and moves it once.
    const turns = readers.filter((r): r is Node => r !== null && isTurn(r));
    for (const turn of turns) {
      net.arc(last, made, sizes.turn(turn, false, false));
      net.arc(made, first, sizes.turn(turn, true, false));
    }
    const users = readers.filter((r) => r === null || !isTurn(r)).map(vertexOf);
    const [toLast, toFirst] = [net.vertex(), net.vertex()];
    net.arc(toLast, made, sizes.move(value, true));
    net.arc(made, toFirst, sizes.move(value, false));
    for (const user of users) {
      net.arc(user, toLast, Number.POSITIVE_INFINITY);
      net.arc(toFirst, user, Number.POSITIVE_INFINITY);
    }
  }
  const part = net.cut(last, first);
  return new Set(nodes.filter((node) => !isTurn(node) && vertices.has(node) && part[vertices.get(node)!])); // just asked
}

/** What is moved and lost by a choice. */
function billOf(sizes: Sizes, nodes: readonly Node[], chosen: Chosen): LayoutBill {
  const losses = nodes.flatMap((node) => (sizes.gains(node) && !chosen.has(node) ? [{ node, ns: sizes.costs.loss(node) }] : []));
  const moves: LayoutMove[] = [];
  for (const [value, readers] of sizes.readers) {
    const isLast = chosen.has(value.node) && !value.node.op.keepsOutputs;
    const users = readers.filter((r) => r === null || !isTurn(r));
    for (const turn of readers.filter((r): r is Node => r !== null && isTurn(r))) {
      const wanted = sizes.readers.get(turn.outputs[0]) ?? [];
      const isAllLast = wanted.length > 0 && wanted.every((r) => r !== null && chosen.has(r));
      moves.push({ value: turn.outputs[0], toLast: isAllLast, ns: sizes.turn(turn, isLast, isAllLast) });
    }
    if (isTurn(value.node)) continue; // counted above
    if (users.some((r) => (r !== null && chosen.has(r)) !== isLast)) moves.push({ value, toLast: !isLast, ns: sizes.move(value, !isLast) });
  }
  const counted = moves.filter(({ ns }) => ns > 0);
  const ns = [...losses, ...counted].reduce((sum, part) => sum + part.ns, 0);
  return { moves: counted, losses, ns };
}
