// Which kernels compute a node: the table of anchors, generated kernels for the rest, none where JavaScript has to do.
import type { Graph, Node, Op, Value } from "../../ir/graph.ts";
import { Group, groupAttrs } from "../../ir/group.ts";
import { canLowerGroup, lowerGroup } from "../../lower/group.ts";
import { Conv } from "../../ops/conv.ts";
import { ConvTranspose } from "../../ops/conv_transpose.ts";
import { MatMul } from "../../ops/matmul.ts";
import { LayerNormalization } from "../../ops/norm.ts";
import { AveragePool, MaxPool } from "../../ops/pool.ts";
import { LogSoftmax, Softmax } from "../../ops/softmax.ts";
import { rangedLeaf } from "../ranges.ts";
import { sharersOfNode, USUAL_MEETING } from "../sharers.ts";
import { hasKernel, type Implementation, type Step, sharedKernel, type TargetOptions, valuePlace } from "../step.ts";
import { ATTENTION_ALONE } from "./attention.ts";
import { implementConv } from "./conv.ts";
import { implementConvTranspose } from "./conv_transpose.ts";
import { anchorTask } from "./epilogue.ts";
import { implementLayerNormalization, implementSoftmax } from "./line.ts";
import { implementMatMul } from "./matmul.ts";
import { implementAveragePool, implementMaxPool } from "./pool.ts";
import { structureKey } from "./structure_key.ts";
import { canAnchor, TRAINING_ALONE, TRAINING_ANCHORS } from "./training.ts";

/** Operators whose kernels apply an epilogue. */
const ANCHORS: ReadonlyMap<Op, Implementation> = new Map([
  [Conv, implementConv],
  [ConvTranspose, implementConvTranspose],
  [MatMul, implementMatMul],
  [MaxPool, implementMaxPool],
  [AveragePool, implementAveragePool],
  ...TRAINING_ANCHORS,
]);

/** Operators with a kernel that stands alone. */
const ALONE: ReadonlyMap<Op, Implementation> = new Map([
  [Softmax, implementSoftmax],
  [LogSoftmax, implementSoftmax],
  [LayerNormalization, implementLayerNormalization],
  ...ATTENTION_ALONE,
  ...TRAINING_ALONE,
]);

/** Whether a group may form around a node. */
export const isAnchor = (node: Node): boolean => ANCHORS.has(node.op) && canAnchor(node);

/** How a node is executed. `name` is unique in the program. */
export function implement(node: Node, name: string, all: TargetOptions): Step {
  const options = { ...all, threads: sharersOfNode(node, all.threads, all.sparse?.rates.vector.meeting ?? USUAL_MEETING) };
  const anchor = node.op === Group ? groupAttrs(node).anchor : node;
  const by = anchor && (ANCHORS.get(anchor.op) ?? ALONE.get(anchor.op));
  if (by) {
    const task = anchorTask(node, options, name);
    return { node, calls: task && by(task) };
  }
  const body = node.op === Group ? groupAttrs(node).body : singleNode(node);
  if (!body) return { node, calls: null };
  const reads = (node.op === Group ? node.inputs : body.inputs) as readonly Value[]; // a group's inputs are never absent
  const key = `group ${structureKey(body)}`;
  // What is computed of integers is lowered or not by what they may be; all else by its structure alone.
  const isKnown = hasKernel(options, key) && reads.every((v) => v.type.dtype !== "i64");
  if (!isKnown && !canLowerGroup(body, rangedLeaf(reads))) return { node, calls: null };
  const kernel = sharedKernel(options, key, () => lowerGroup(name, body, options.target, options.threads));
  return { node, calls: [{ kernel, places: [...reads, ...node.outputs].map(valuePlace) }] };
}

/** A node as a graph of its own; null when it has no expression or several outputs. */
function singleNode(node: Node): Graph | null {
  if (!node.op.lower || node.outputs.length !== 1) return null;
  const reads = node.inputs.filter((v): v is Value => v !== null);
  return { inputs: reads, outputs: [{ name: "output", value: node.outputs[0] }] };
}
