// Graph → nothing, or the first thing that is wrong with it: types, order, closed bodies. For tests, and after each pass when debugging.
import { HeddleError } from "./error.ts";
import type { Graph, Node, TensorType, Value } from "./graph.ts";
import { Group, groupAttrs } from "./group.ts";

/** Throws HeddleError ("verify"). `after` names the pass that made the graph. */
export function verifyGraph(graph: Graph, after = ""): void {
  verifyPart(graph, after ? `after ${after}: ` : "");
}

/** `where` is put before every message. */
function verifyPart(graph: Graph, where: string): void {
  const given = new Set<Node>();
  for (const value of graph.inputs) {
    if (!isInput(value.node)) throw wrong(where, value.node, "stands as a graph input but is no Input");
    if (given.has(value.node)) throw wrong(where, value.node, "is a graph input twice");
    given.add(value.node);
  }
  const names = graph.outputs.map((o) => o.name);
  const twice = names.find((name, i) => names.indexOf(name) !== i);
  if (twice !== undefined) throw new HeddleError("verify", `${where}output ${twice}: the name is used twice`);
  for (const node of nodesInOrder(graph, where)) {
    if (isInput(node) && !given.has(node)) throw wrong(where, node, "is used but is no input of its graph");
    verifyNode(node, where);
  }
}

/** Sources that compute nothing: their tensor comes from outside. */
const isInput = (node: Node): boolean => node.op.kind === "source" && !node.op.evaluate;

function wrong(where: string, node: Node, why: string): HeddleError {
  return new HeddleError("verify", `${where}${node.op.name} ${why}${node.from ? `; from ${node.from}` : ""}`);
}

/** All nodes, inputs before users; throws on a cycle, which topologicalOrder would not notice. */
function nodesInOrder(graph: Graph, where: string): Node[] {
  const order: Node[] = [];
  const state = new Map<Node, "open" | "done">();
  const stack: { node: Node; next: number }[] = [];
  const open = (node: Node) => {
    state.set(node, "open");
    stack.push({ node, next: 0 });
  };
  for (const root of [...graph.inputs, ...graph.outputs.map((o) => o.value)]) {
    if (!state.has(root.node)) open(root.node);
    while (stack.length > 0) {
      const top = stack[stack.length - 1];
      if (top.next === top.node.inputs.length) {
        state.set(top.node, "done");
        order.push(top.node);
        stack.pop();
        continue;
      }
      const input = top.node.inputs[top.next++];
      if (!input) continue;
      if (state.get(input.node) === "open") throw wrong(where, input.node, "depends on its own output");
      if (!state.has(input.node)) open(input.node);
    }
  }
  for (const { value } of graph.outputs) checkValue(value, value.node, where);
  return order;
}

function verifyNode(node: Node, where: string): void {
  for (const value of node.inputs) if (value) checkValue(value, node, where);
  for (const [name, spec] of Object.entries(node.op.attrs)) {
    if (node.attrs[name] === undefined && spec.default === undefined && !spec.optional) throw wrong(where, node, `lacks attribute ${name}`);
  }
  for (const [i, o] of node.outputs.entries()) {
    if (o.node !== node || o.index !== i) throw wrong(where, node, `has an output ${i} that belongs to another node or place`);
    if (o.type.shape.some((d) => !Number.isInteger(d) || d < 0)) throw wrong(where, node, `has the type ${typeText(o.type)}`);
  }
  if (node.op === Group) verifyGroup(node, where);
  const inferred = inferAgain(node, where);
  const [got, wanted] = [node.outputs.map((o) => typeText(o.type)).join(", "), inferred.map(typeText).join(", ")];
  if (got !== wanted) throw wrong(where, node, `has the type ${got}, its operator infers ${wanted}`);
}

function inferAgain(node: Node, where: string): readonly TensorType[] {
  try {
    return node.op.infer(node.inputs, node.attrs);
  } catch (cause) {
    throw new HeddleError("verify", `${where}${cause instanceof Error ? cause.message : String(cause)}; from ${node.from}`, { cause });
  }
}

function checkValue(value: Value, user: Node, where: string): void {
  if (value.node.outputs[value.index] !== value) throw wrong(where, user, `uses a value that ${value.node.op.name} does not have`);
}

const typeText = ({ dtype, shape }: TensorType): string => `${dtype}[${shape}]`;

/** The body is closed, fits the node, and the anchor is in it. */
function verifyGroup(node: Node, where: string): void {
  const { body, anchor } = groupAttrs(node);
  const count = body.outputs.length;
  if (count === 0 || (anchor && count > 1)) throw wrong(where, node, `has ${count} outputs, wanted 1`);
  if (new Set(body.outputs.map((o) => o.value.type.shape.join())).size > 1) throw wrong(where, node, "has outputs of several shapes");
  if (body.inputs.length !== node.inputs.length)
    throw wrong(where, node, `has ${node.inputs.length} inputs, its body ${body.inputs.length}`);
  for (const [i, formal] of body.inputs.entries()) {
    const actual = node.inputs[i];
    if (!actual) throw wrong(where, node, `lacks input ${i}`);
    if (typeText(actual.type) !== typeText(formal.type))
      throw wrong(where, node, `is given ${typeText(actual.type)} as input ${i}, its body takes ${typeText(formal.type)}`);
  }
  verifyPart(body, `${where}in the group from ${node.from}: `);
  if (!anchor) return;
  const order = nodesInOrder(body, where);
  if (!order.includes(anchor)) throw wrong(where, node, `has an anchor (${anchor.op.name}) that is not in its body`);
  const outer = anchor.inputs.find((v) => v && v.node.op.kind !== "source");
  if (outer)
    throw wrong(where, node, `has an anchor (${anchor.op.name}) with the input ${outer.node.op.name}, which is no input of the body`);
  const other = order.find((n) => n !== anchor && n.op.kind !== "map" && n.op.kind !== "source");
  if (other) throw wrong(where, node, `has an anchor (${anchor.op.name}) and besides it ${other.op.name}, which is no map`);
}
