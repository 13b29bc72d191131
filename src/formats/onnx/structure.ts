// Checks the names of an ONNX graph and gives its nodes with producers before users.
import { HeddleError } from "../../ir/error.ts";
import { type GraphProto, NONE, type NodeProto } from "./messages.ts";

/** Sub-graphs and functions nested deeper than this are refused. */
export const MAX_DEPTH = 32;
/** Functions that call each other could grow without bound. */
export const MAX_NODES = 100_000;

/** A node and its place in the file, from which nameless nodes are called `Conv#12`. */
export interface PlacedNode {
  readonly proto: NodeProto;
  readonly name: string;
}

/** Name of a node, on one line whatever the file holds. */
export const nodeName = (proto: NodeProto, index: number): string => (proto.name ? plain(proto.name) : `${plain(proto.opType)}#${index}`);

/** Text of the file fit for an error message: one line of limited length. */
export function plain(text: string, limit = 200): string {
  if (text.length <= limit && /^[ -~]*$/.test(text)) return text; // nearly always
  const line = text.replace(/[\p{Cc}\u2028\u2029]/gu, "?");
  return line.length > limit ? `${line.slice(0, limit)}…` : line;
}

/** Nodes in an order in which they can run. Throws on names defined twice, unknown names and cycles. `isOuter`: names the graph may use from around it. */
export function orderedNodes(graph: GraphProto, isOuter: (name: string) => boolean): readonly PlacedNode[] {
  const given = new Set<string>();
  for (const { name } of graph.input) define(given, name, "input");
  const initializers = new Set<string>();
  for (const name of initializerNames(graph)) define(initializers, name, "initializer");
  for (const name of initializers) given.add(name); // an input of the same name is the older way to give a default
  const nodes = orderNodes(graph.node, given, isOuter);
  for (const { name } of graph.output) {
    if (!given.has(name) && !isOuter(name)) throw new HeddleError("bad-model", `output ${plain(name)}: nothing in the graph computes it`);
  }
  return nodes;
}

/** Names of all initializers, dense and sparse. */
export const initializerNames = ({ initializer, sparseInitializer }: GraphProto): readonly string[] => [
  ...initializer.map((t) => t.name),
  ...sparseInitializer.map((t) => t.values?.name ?? ""),
];

function define(names: Set<string>, name: string, what: string): void {
  if (names.has(name)) throw new HeddleError("bad-model", `${what} ${plain(name)}: the name is defined twice`);
  names.add(name);
}

/** Adds all outputs to `given`. Files should hold nodes in order; those that do not are sorted. */
export function orderNodes(protos: readonly NodeProto[], given: Set<string>, isOuter: (name: string) => boolean): readonly PlacedNode[] {
  if (protos.length > MAX_NODES) throw new HeddleError("limit", `model: ${protos.length} nodes, heddle takes at most ${MAX_NODES}`);
  const nodes = protos.map((proto, index) => ({ proto, name: nodeName(proto, index) }));
  const before = given.size;
  for (const { proto } of nodes) {
    if (!usedNames(proto).every((name) => given.has(name) || isOuter(name))) {
      for (const name of [...given].slice(before)) given.delete(name); // sets keep the order of insertion
      return sortNodes(nodes, given, isOuter);
    }
    for (const output of proto.output) {
      if (output === "") continue;
      if (given.has(output)) throw twice(proto, output, nodes);
      given.add(output);
    }
  }
  return nodes;
}

const twice = (proto: NodeProto, output: string, nodes: readonly PlacedNode[]): HeddleError =>
  new HeddleError(
    "bad-model",
    `${plain(proto.opType)}: its output ${plain(output)} is defined twice; from ${nodes.find((n) => n.proto === proto)?.name}`,
  );

/** Nodes in an order in which they can run (Kahn 1962). */
function sortNodes(nodes: readonly PlacedNode[], given: Set<string>, isOuter: (name: string) => boolean): readonly PlacedNode[] {
  const producer = new Map<string, number>();
  for (const [i, { proto }] of nodes.entries()) {
    for (const output of proto.output) {
      if (output === "") continue;
      if (producer.has(output) || given.has(output)) throw twice(proto, output, nodes);
      producer.set(output, i);
    }
  }
  const needs = nodes.map(({ proto, name }) =>
    usedNames(proto).flatMap((input) => {
      const at = producer.get(input);
      if (at !== undefined) return [at];
      if (!given.has(input) && !isOuter(input) && proto.input.includes(input))
        throw new HeddleError("bad-model", `${plain(proto.opType)}: input ${plain(input)} is not defined; from ${name}`);
      return [];
    }),
  );
  for (const name of producer.keys()) given.add(name);
  return sorted(nodes, needs);
}

/** Inputs of a node, and what its sub-graphs may read from around it. */
function usedNames(proto: NodeProto): readonly string[] {
  const graphs = subGraphs(proto);
  if (graphs.length === 0 && !proto.input.includes("")) return proto.input;
  const names = proto.input.filter((name) => name !== "");
  for (const graph of graphs) collectNames(graph, names, 0);
  return names;
}

function subGraphs({ attribute }: NodeProto): readonly GraphProto[] {
  let found: GraphProto[] | undefined;
  for (let i = 0; i < attribute.length; i++) {
    const { g, graphs } = attribute[i];
    if (g || graphs.length > 0) found = [...(found ?? []), ...(g ? [g] : []), ...graphs];
  }
  return found ?? NONE;
}

function collectNames(graph: GraphProto, names: string[], depth: number): void {
  if (depth > MAX_DEPTH) throw new HeddleError("limit", `graph ${plain(graph.name)}: sub-graphs are nested more than ${MAX_DEPTH} deep`);
  const own = new Set([...graph.input.map((v) => v.name), ...initializerNames(graph)]);
  for (const node of graph.node) for (const output of node.output) own.add(output);
  const inner: string[] = graph.output.map((v) => v.name);
  for (const node of graph.node) {
    for (const input of node.input) inner.push(input);
    for (const sub of subGraphs(node)) collectNames(sub, inner, depth + 1);
  }
  for (const name of inner) if (name !== "" && !own.has(name)) names.push(name);
}

function sorted(nodes: readonly PlacedNode[], needs: readonly (readonly number[])[]): readonly PlacedNode[] {
  const users = nodes.map((): number[] => []);
  const missing = needs.map((from) => from.length);
  for (const [i, from] of needs.entries()) for (const at of from) users[at].push(i);
  const ready = nodes.flatMap((_, i) => (missing[i] === 0 ? [i] : []));
  for (let k = 0; k < ready.length; k++) for (const user of users[ready[k]]) if (--missing[user] === 0) ready.push(user);
  if (ready.length < nodes.length) {
    const { proto, name } = nodes[missing.findIndex((n) => n > 0)];
    throw new HeddleError("bad-model", `${plain(proto.opType)}: the graph has a cycle through this node; from ${name}`);
  }
  return ready.map((i) => nodes[i]);
}
