// Grows an anchor (a node with a hand-scheduled kernel) into a region: the elementwise nodes after it that can be its kernel's epilogue.
import { DTYPES, isFloat } from "../ir/dtype.ts";
import type { Node, Value } from "../ir/graph.ts";
import { elementCount } from "../ir/tensor.ts";
import { OPS } from "../ops/index.ts";
import { constantOf } from "../ops/source.ts";
import { sameShape } from "./match.ts";
import type { Uses } from "./uses.ts";

/** Nodes with one result; nothing outside reads the others. */
export interface Region {
  readonly members: readonly Node[];
  readonly output: Value;
  /** Outputs of the graph on the way to `output`, which are stored as well. */
  readonly also: readonly Value[];
  readonly anchor: Node | null;
}

/** Nodes beyond the last point where all came together again: how far to look for the next one. */
const MAX_OPEN = 8;
const MAX_MEMBERS = 40;
/** Buffers that one kernel gets. */
export const MAX_INPUTS = 16;

const isNumber = (v: Value): boolean => constantOf(v) !== undefined && elementCount(v.type.shape) === 1;

/** Values that the nodes read from outside, without single numbers. */
export function outsideInputs(nodes: readonly Node[]): number {
  const inside = new Set(nodes);
  const isRead = (v: Value | null) => v !== null && !inside.has(v.node) && !isNumber(v);
  return new Set(nodes.flatMap((n) => n.inputs).filter(isRead)).size;
}

/**
 * The largest region of `isEligible` nodes after the anchor in which every value but the last is read only inside. Null: several results of the anchor are used.
 * `rereads`: see FuseOptions. As only the last value leaves, no other input of the region can depend on it.
 */
export function growRegion(
  anchor: Node,
  uses: Uses,
  position: ReadonlyMap<Node, number>,
  isEligible: (node: Node) => boolean,
  rereads = false,
): Region | null {
  const isUsed = (v: Value) => uses.users(v).length > 0 || uses.isOutput(v);
  if (anchor.outputs.slice(1).some(isUsed)) return null;
  const [{ type }] = anchor.outputs;
  const members = [anchor];
  const inside = new Set<Node>(members);
  let region: Region = { members: [anchor], output: anchor.outputs[0], also: [], anchor };
  while (members.length < MAX_MEMBERS && members.length - region.members.length < MAX_OPEN) {
    const next = firstUser(members, inside, uses, position);
    if (!next || !isEligible(next) || !sameShape(next.outputs[0].type.shape, type.shape)) break;
    members.push(next);
    inside.add(next);
    if (outsideInputs(members) > MAX_INPUTS) break;
    if (isWidening(next, rereads ? null : anchor)) continue; // by itself it would only make the result larger
    if (members.slice(0, -1).every((m) => isClosed(m.outputs[0], inside, uses)))
      region = { members: [...members], output: next.outputs[0], also: [], anchor };
  }
  return withProducers(region, uses, isEligible);
}

/** With what the epilogue reads and nothing else does, where that is computed of values that are in memory anyway (a mask of an activation): it need not be stored. */
function withProducers(region: Region, uses: Uses, isEligible: (node: Node) => boolean): Region {
  const { anchor, output } = region;
  const members = [...region.members];
  const inside = new Set<Node>(members);
  const isProducer = ({ node, type }: Value): boolean =>
    !inside.has(node) &&
    !uses.users(node.outputs[0]).some((user) => user === anchor) &&
    isEligible(node) &&
    sameShape(type.shape, output.type.shape) &&
    isClosed(node.outputs[0], inside, uses) &&
    (isWidening(node, anchor) || node.inputs.every((v) => !v || isNumber(v) || uses.users(v).length > 1 || uses.isOutput(v)));
  for (const member of region.members) {
    for (const v of member.inputs) {
      if (!v || member === anchor || members.length >= MAX_MEMBERS || !isProducer(v)) continue;
      if (outsideInputs([v.node, ...members]) > MAX_INPUTS) continue;
      members.unshift(v.node);
      inside.add(v.node);
    }
  }
  return { members, output, also: [], anchor };
}

/** Whether it is the wider form of a value that was rounded; an anchor's result is not before it is stored. */
const isWidening = ({ op, inputs: [x], outputs: [y] }: Node, anchor: Node | null): boolean =>
  op === OPS.get("Cast") &&
  x !== null &&
  x.node !== anchor &&
  isFloat(x.type.dtype) &&
  DTYPES[y.type.dtype].bytes > DTYPES[x.type.dtype].bytes;

const isClosed = (value: Value, inside: ReadonlySet<Node>, uses: Uses): boolean =>
  !uses.isOutput(value) && uses.users(value).every((u) => inside.has(u));

/** The first node in order that reads a member and is none. */
function firstUser(members: readonly Node[], inside: ReadonlySet<Node>, uses: Uses, position: ReadonlyMap<Node, number>): Node | undefined {
  let first: Node | undefined;
  for (const member of members)
    for (const user of uses.users(member.outputs[0]))
      if (!inside.has(user) && (!first || position.get(user)! < position.get(first)!)) first = user;
  return first;
}
