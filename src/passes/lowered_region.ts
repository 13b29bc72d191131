// Grows a node with readers backwards into a region that becomes one generated kernel: producers join when nothing is computed twice.
import { DTYPES } from "../ir/dtype.ts";
import type { Node, Value } from "../ir/graph.ts";
import { elementCount } from "../ir/tensor.ts";
import { sameShape } from "./match.ts";
import { readsOf } from "./reads.ts";
import { MAX_INPUTS, outsideInputs, type Region } from "./region.ts";
import type { Uses } from "./uses.ts";

/** How often an element may be computed, on average: a Pad or an odd slice reads a few twice. */
const MAX_REPEATS = 1.5;
const MAX_MEMBERS = 48;
/** Elements that are read for one of the output, reductions apart: each is an expression in the kernel. */
const MAX_READS = 128;

export interface GrowContext {
  readonly uses: Uses;
  readonly position: ReadonlyMap<Node, number>;
  /** Belongs to no other region, and has readers. */
  isFree(node: Node): boolean;
  /** Another region needs it in memory. */
  isNeeded(value: Value): boolean;
  /** What costs less to read again than to write: see FuseOptions. */
  readonly rereads: boolean;
}

/** A mask has so many times as many elements as it is made of. */
const SPREAD = 8;

interface Member {
  /** How often each element is computed. */
  readonly repeats: number;
  /** Expressions that it is: views that read it at different places each have their own. */
  readonly copies: number;
  /** Computed here only; other regions do not repeat it. */
  readonly isExclusive: boolean;
  /** All that read it in the region compute of each element the same element of theirs, up to the sink. */
  readonly isAligned: boolean;
}

const size = (node: Node): number => Math.max(1, elementCount(node.outputs[0].type.shape));

/** Moves elements without arithmetic, or counts them, so that doing it again costs an address only. */
const isPureView = (node: Node): boolean => (node.op.kind === "view" && node.op.flops?.(node) === 0) || node.op.name === "Range";

/** The same elements in the same order: no work outside of a region. */
export const isReshape = (node: Node): boolean => node.op.name === "Reshape";

const isUnitReshape = (node: Node): boolean =>
  sameShape(node.inputs[0]!.type.shape.filter((d) => d !== 1), node.outputs[0].type.shape.filter((d) => d !== 1)); // biome-ignore format: short

/** The region that ends at `sink`. */
export function growLowered(sink: Node, context: GrowContext): Region {
  const { position, isFree, uses } = context;
  const members = new Map<Node, Member>([[sink, { repeats: 1, copies: 1, isExclusive: true, isAligned: true }]]);
  let hasReduce = sink.op.kind === "reduce";
  let reads = readsOf(sink).size;
  const candidates = new Set<Node>();
  const offer = (node: Node) => {
    for (const i of readsOf(node).keys()) {
      const producer = node.inputs[i]?.node;
      if (producer && !members.has(producer) && isFree(producer)) candidates.add(producer);
    }
  };
  offer(sink);
  while (candidates.size > 0 && members.size < MAX_MEMBERS) {
    // The last in order: all of its readers have been decided on.
    const node = [...candidates].reduce((a, b) => (position.get(b)! > position.get(a)! ? b : a));
    candidates.delete(node);
    const member = judge(node, members, context);
    if (!member || (node.op.kind === "reduce" && hasReduce)) continue;
    const more = member.copies * readsOf(node).size;
    if (reads + more > MAX_READS) continue;
    reads += more;
    hasReduce ||= node.op.kind === "reduce";
    members.set(node, member);
    offer(node);
  }
  const inOrder = [...members.keys()].sort((a, b) => position.get(a)! - position.get(b)!);
  const [output] = sink.outputs;
  const also = inOrder.flatMap((node) => node.outputs.filter((v) => v !== output && uses.isOutput(v) && members.get(node)!.isExclusive));
  const isTooWide = inOrder.length > 1 && outsideInputs(inOrder) + also.length > MAX_INPUTS;
  return isTooWide ? { members: [sink], output, also: [], anchor: null } : { members: inOrder, output, also, anchor: null };
}

/** How the node would be computed in the region, or null when it must stay outside. */
function judge(node: Node, members: ReadonlyMap<Node, Member>, context: GrowContext): Member | null {
  const { uses, isNeeded, isFree, rereads } = context;
  const [value] = node.outputs;
  const readers = uses.users(value);
  const isAligned = isAlignedWith(node, members, readers);
  const isStored = isAligned && uses.isOutput(value) && node.op.kind === "map";
  const isExclusive = (isStored || !isNeeded(value)) && readers.every((u) => members.get(u)?.isExclusive);
  const repeats = repeatsOf(node, members);
  const copies = copiesOf(node, members);
  if (isReshape(node)) {
    // Alone it costs nothing; inside it costs divisions, unless it only moves axes of size 1 between two nodes that fuse.
    const producer = node.inputs[0]!.node;
    const joins = isUnitReshape(node) && isFree(producer) && uses.onlyUser(node.inputs[0]!) === node;
    return joins && isExclusive && repeats <= MAX_REPEATS ? { repeats, copies, isExclusive, isAligned: false } : null;
  }
  // Reading a view again is no more work than reading again what it would have stored.
  const most = node.op.kind === "reduce" ? 1 : MAX_REPEATS; // a reduction is too much to repeat
  const isRead = rereads ? (isPureView(node) && node.op.name !== "Pad") || isWidening(node) : isPureView(node); // zeros around matrices are stored
  if (isExclusive && (repeats <= most || isRead)) return { repeats, copies, isExclusive, isAligned };
  const isRepeated = (isRead && isCheapToRepeat(node, readers)) || (rereads && ((isRead && readsStored(node, context)) || isMask(node)));
  return isRepeated ? { repeats, copies, isExclusive: false, isAligned: false } : null;
}

/** A 16-bit float as float32. */
const isWidening = ({ op, inputs: [x], outputs: [y] }: Node): boolean =>
  op.name === "Cast" && x !== null && (x.type.dtype === "bf16" || x.type.dtype === "f16") && y.type.dtype === "f32";

/** Whether all between the node and what lies in memory anyway is reading. */
function readsStored(node: Node, context: GrowContext): boolean {
  const producer = node.inputs[0]!.node; // views and casts read something
  if (!context.isFree(producer) || isReshape(producer)) return true;
  return (isPureView(producer) || isWidening(producer)) && readsStored(producer, context);
}

/** Truth of few numbers, spread. */
const isMask = (node: Node): boolean =>
  node.op.kind === "map" &&
  node.outputs[0].type.dtype === "bool" &&
  node.inputs.reduce((n, v) => n + (v ? elementCount(v.type.shape) : 0), 0) * SPREAD <= size(node);

/** Elements of another size would lie elsewhere than those of the sink: what is stored in place must not be overtaken. */
function isAlignedWith(node: Node, members: ReadonlyMap<Node, Member>, readers: readonly Node[]): boolean {
  const { shape, dtype } = node.outputs[0].type;
  return readers.every((u) => {
    const { type } = u.outputs[0];
    const isAlike = sameShape(type.shape, shape) && DTYPES[type.dtype].bytes === DTYPES[dtype].bytes;
    return members.get(u)?.isAligned && u.op.kind === "map" && isAlike;
  });
}

/** A view that several read: it grows its input (so that it is better read than stored), or each reads another part of it. */
function isCheapToRepeat(node: Node, readers: readonly Node[]): boolean {
  const input = elementCount(node.inputs[0]!.type.shape);
  const parts = readers.reduce((n, u) => n + size(u), 0);
  return size(node) > input || parts <= size(node);
}

/** Elements read by all readers in the region, for each element of the node. */
function repeatsOf(node: Node, members: ReadonlyMap<Node, Member>): number {
  let most = 0;
  for (const [reader, { repeats }] of members) {
    for (const [i, reads] of readsOf(reader)) if (reader.inputs[i]?.node === node) most = Math.max(most, (repeats * reads) / size(node));
  }
  return most;
}

/** Elementwise readers share what they read at the same place; each reading of a view is of another place. */
function copiesOf(node: Node, members: ReadonlyMap<Node, Member>): number {
  let shared = 0;
  let own = 0;
  for (const [reader, { copies }] of members) {
    const readings = [...readsOf(reader).keys()].filter((i) => reader.inputs[i]?.node === node).length;
    if (reader.op.kind === "view") own += readings * copies;
    else if (readings > 0) shared = Math.max(shared, copies);
  }
  return shared + own;
}
