// Functions that a model defines itself → the nodes of their bodies, with the caller's attributes put in.
import { HeddleError } from "../../ir/error.ts";
import type { AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto } from "./messages.ts";
import { ownDomain } from "./read.ts";
import { plain } from "./structure.ts";

const keyOf = (domain: string, name: string, overload: string): string => JSON.stringify([ownDomain(domain), name, overload]);

/** Functions by domain, name and overload. */
export type FunctionTable = ReadonlyMap<string, FunctionProto>;

export function functionTable({ functions }: ModelProto): FunctionTable {
  const table = new Map<string, FunctionProto>();
  for (const f of functions) {
    const key = keyOf(f.domain, f.name, f.overload);
    if (table.has(key)) throw new HeddleError("bad-model", `function ${plain(f.name)}: it is defined twice`);
    table.set(key, f);
  }
  return table;
}

export const functionOf = (table: FunctionTable, node: NodeProto): FunctionProto | undefined =>
  table.size > 0 ? table.get(keyOf(node.domain, node.opType, node.overload)) : undefined;

/** The body with attributes that refer to the function's own replaced by those of the call, or their defaults; those without either are absent. */
export function functionBody(f: FunctionProto, call: readonly AttributeProto[]): NodeProto[] {
  const given = new Map([...f.attributeProto, ...call].map((a) => [a.name, a]));
  return f.node.map((node) => withAttributes(node, given));
}

function withAttributes(node: NodeProto, given: ReadonlyMap<string, AttributeProto>): NodeProto {
  if (node.attribute.length === 0) return node;
  const attribute = node.attribute.flatMap((a) => {
    if (a.refAttrName !== "") {
      const value = given.get(a.refAttrName);
      return value ? [{ ...value, name: a.name }] : [];
    }
    return [a.g ? { ...a, g: graphWithAttributes(a.g, given) } : a];
  });
  return { ...node, attribute };
}

const graphWithAttributes = (graph: GraphProto, given: ReadonlyMap<string, AttributeProto>): GraphProto => ({
  ...graph,
  node: graph.node.map((node) => withAttributes(node, given)),
});
