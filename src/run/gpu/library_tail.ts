// What follows a contraction in its group, as far as a library's kernel does it as well: a bias, a tensor that is added, an activation.
import { type Graph, type Node, topologicalOrder, type Value } from "../../ir/graph.ts";
import { Group, groupAttrs } from "../../ir/group.ts";
import { type LibraryTail, NO_TAIL } from "../../ir/library_kernel.ts";
import { elementCount, type TensorData } from "../../ir/tensor.ts";
import { OPS } from "../../ops/index.ts";
import { constantOf } from "../../ops/source.ts";
import { isAlongAxis, sameShape } from "../../passes/match.ts";

/** All of a group's tail, with what it reads. */
export interface MatchedTail extends LibraryTail {
  /** One number for each channel. */
  readonly bias: TensorData | null;
  /** The bias, where it is not known when compiling. */
  readonly learned: Value | null;
  readonly added: Value | null;
}

const [ADD, CAST, GELU, RELU] = ["Add", "Cast", "Gelu", "Relu"].map((name) => OPS.get(name)!); // ONNX's
const BARE: MatchedTail = { ...NO_TAIL, bias: null, learned: null, added: null };

/**
 * The tail of the group that gives `output`, whose channels are its last axis. Null: it does more. Roundings on the way are left out, as kernels of a library do.
 * `ofProduct`: a library's product has more tails than its convolutions, Gelu by tanh and a learned bias.
 */
export function matchedTail(output: Value, ofProduct = false): MatchedTail | null {
  const { node, type } = output;
  if (node.op !== Group) return BARE;
  const { anchor, body } = groupAttrs(node);
  if (!anchor || body.outputs.length !== 1) return null;
  const users = usersOf(body);
  const outer = (v: Value): Value => node.inputs[body.inputs.indexOf(v)] ?? v; // constants may stay inside
  let [value] = anchor.outputs;
  let tail = BARE;
  while (value !== body.outputs[0].value) {
    const [user, ...others] = users.get(value) ?? [];
    const next = user && others.length === 0 ? step(user, value, tail) : null;
    if (!next) return null;
    tail = next;
    [value] = user.outputs;
  }
  return tail;

  function step({ op, inputs, attrs }: Node, from: Value, before: MatchedTail): MatchedTail | null {
    if (op === CAST) return before;
    if (before.isRelu || before.gelu) return null;
    if (op === RELU) return { ...before, isRelu: true };
    if (op === GELU && ofProduct && (attrs as { approximate?: string }).approximate === "tanh") return { ...before, gelu: "value" };
    if (op !== ADD) return null;
    const other = outer(seenThroughCast(inputs[0] === from ? inputs[1]! : inputs[0]!)); // Add has two
    const constant = constantOf(other);
    if (constant && !before.hasBias && isAlongAxis(constant, type.shape, type.shape.length - 1)) return { ...before, hasBias: true, bias: constant }; // biome-ignore format: short
    if (ofProduct && !constant && !before.hasBias && isOfChannels(other) && node.inputs.includes(other)) return { ...before, hasBias: true, learned: other }; // biome-ignore format: short
    if (constant || before.hasAdded || !sameShape(other.type.shape, type.shape) || other.type.dtype !== type.dtype) return null;
    return node.inputs.includes(other) ? { ...before, hasAdded: true, added: other } : null;
  }

  /** Whether it is one float32 number for each channel. */
  function isOfChannels({ type: { dtype, shape } }: Value): boolean {
    const channels = type.shape[type.shape.length - 1];
    return dtype === "f32" && shape[shape.length - 1] === channels && elementCount(shape) === channels && type.shape.length > 1;
  }
}

/** Whether nothing follows in the group but another type. */
export function isBareTail(output: Value): boolean {
  const tail = matchedTail(output, true);
  return tail !== null && !tail.hasBias && !tail.hasAdded && !tail.isRelu && !tail.gelu;
}

const seenThroughCast = (v: Value): Value => (v.node.op === CAST ? v.node.inputs[0]! : v); // it has one

function usersOf(body: Graph): Map<Value, Node[]> {
  const users = new Map<Value, Node[]>();
  for (const node of topologicalOrder(body)) for (const v of node.inputs) if (v) users.set(v, [...(users.get(v) ?? []), node]);
  return users;
}

/** With a bias of the contraction's own. Null: there are two, or it is not known when compiling. */
export function withBias(tail: MatchedTail, bias: Value | null | undefined): MatchedTail | null {
  if (!bias) return tail;
  const constant = constantOf(bias);
  if (!constant || tail.hasBias) return null;
  return { ...tail, hasBias: true, bias: { ...constant, shape: [elementCount(constant.shape)] } };
}
