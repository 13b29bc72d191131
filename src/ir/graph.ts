// The graph: immutable nodes that point at their operator's definition, connected through values.
import type { DType } from "./dtype.ts";
import { HeddleError } from "./error.ts";
import type { Expr } from "./expr.ts";
import type { Index } from "./index_expr.ts";
import { atOnce, type Pieces } from "./pieces.ts";
import type { Shape, TensorData } from "./tensor.ts";

/** What a value is. */
export interface TensorType {
  readonly dtype: DType;
  readonly shape: Shape;
}

/** One output of one node. */
export interface Value {
  readonly node: Node;
  /** Which of the node's outputs. */
  readonly index: number;
  readonly type: TensorType;
}

/** One application of an operator. Absent optional inputs are null. */
export interface Node<A = Attrs> {
  readonly op: Op<A>;
  readonly inputs: readonly (Value | null)[];
  readonly attrs: A;
  readonly outputs: readonly Value[];
  /** Where it came from: the ONNX node's name, or file and line of the traced call. */
  readonly from: string;
}

export interface GraphOutput {
  readonly name: string;
  readonly value: Value;
}

/** A network specialised to concrete shapes. Inputs are nodes of the operator `Input`, constants of `Constant` (ops/source.ts). */
export interface Graph {
  readonly inputs: readonly Value[];
  readonly outputs: readonly GraphOutput[];
}

/** Attribute values of a node. `TensorData` and `Graph`-valued attributes are allowed (Constant, If). */
export type AttrValue = number | string | boolean | readonly number[] | readonly string[] | TensorData | null | undefined | object;
export type Attrs = Readonly<Record<string, AttrValue>>;

/** Reads one tensor inside fused code: multi-index in, scalar expression out. */
export interface Reader {
  readonly type: TensorType;
  at(index: readonly Index[]): Expr;
}

/** How an attribute is stored in ONNX, and its default (absent default: required unless `optional`). */
export interface AttrSpec {
  readonly type: "int" | "float" | "string" | "ints" | "floats" | "strings" | "tensor" | "graph";
  readonly default?: AttrValue;
  readonly optional?: boolean;
  /** Heddle's own, unknown to ONNX: never written to a file. */
  readonly own?: boolean;
}

/** A sample application that every generated test draws from. */
export interface Sample<A> {
  readonly inputs: readonly (TensorType | TensorData | null)[];
  readonly attrs?: Partial<A>;
  /** Range that random float inputs are drawn from; default [-2, 2]. */
  readonly range?: readonly [number, number];
}

/** What an operator's `importOnnx` may use to read an old or irregular form of itself. */
export interface ImportContext {
  readonly opset: number;
  readonly name: string;
  readonly inputs: readonly (Value | null)[];
  /** Raw ONNX attributes by name: numbers, strings, arrays, TensorData. */
  readonly attrs: Attrs;
  readonly outputCount: number;
  constant(data: TensorData): Value;
  emit(op: Op<never>, inputs: readonly (Value | null)[], attrs?: Attrs): readonly Value[];
  /** Imports the sub-graph attribute in place, with access to outer values; `bind` gives its formal inputs. */
  inline(attr: string, bind?: readonly Value[]): readonly Value[];
}

/** What an operator's `permute` may use. */
export interface PermuteContext {
  /** Axis i of a permuted tensor is axis order[i] of the original one; the outputs must be permuted so too. */
  readonly order: readonly number[];
  /** Input i with permuted axes; it must have as many axes as `order`. */
  permuted(i: number): Value;
  /** Input i as it is. */
  kept(i: number): Value | null;
}

/** Makes nodes from operators by name, and their constants; all nodes say that they come from the same place. */
export interface Builder {
  /** First output of an operator by its name, or of one that is given. */
  op(op: string | Op, inputs: readonly (Value | null)[], attrs?: Attrs): Value;
  all(op: string | Op, inputs: readonly (Value | null)[], attrs?: Attrs): readonly Value[];
  /** A constant; without a shape: a scalar or one axis. */
  constant(dtype: DType, values: number | readonly number[], shape?: Shape): Value;
  tensor(data: TensorData): Value;
  ints(...values: number[]): Value;
  cast(x: Value, dtype: DType): Value;
  reshape(x: Value, shape: Shape): Value;
  transpose(x: Value, perm: readonly number[]): Value;
}

/** What an operator's `vjp` may use. */
export interface VjpContext {
  /** Makes nodes of all operators. */
  readonly build: Builder;
  /** Gradient with respect to output i; null where nothing depends on that output. At least one is not null. */
  grad(i: number): Value | null;
  /** Whether the gradient with respect to input i is wanted: others may be left null to save work. */
  wants(i: number): boolean;
}

/**
 * All heddle knows of one operator. Exactly one of `lower`, `evaluate`, `expand` gives its meaning:
 * `lower` for what is an index-wise expression of its inputs (all targets and the reference are generated from it),
 * `evaluate` for the rest, as plain float64 loops (hand-scheduled kernels implement it faster), `expand` for what is made of other operators.
 */
export interface Op<A = Attrs> {
  /** ONNX's name. */
  readonly name: string;
  /** All that fusion may ask. map: element-wise with broadcasting · reduce: over axes · view: moves or repeats elements · contract: sums of products · opaque: anything else · source: Input, Constant. */
  readonly kind: "map" | "reduce" | "view" | "contract" | "opaque" | "source";
  readonly attrs: Readonly<Record<string, AttrSpec>>;
  /** Output types; throws HeddleError on wrong shapes. May read constant inputs through constantOf (ops/source.ts). */
  infer(inputs: readonly (Value | null)[], attrs: A): readonly TensorType[];
  /** Readers of the outputs, composed from readers of the inputs. */
  lower?(inputs: readonly (Reader | null)[], node: Node<A>): readonly Reader[];
  /** Plain and right: the reference. */
  evaluate?(inputs: readonly (TensorData | null)[], node: Node<A>): readonly TensorData[];
  /** The outputs where the input types alone decide them (Shape, Size), so that the inputs need not be computed. */
  fold?(inputs: readonly (Value | null)[], attrs: A): readonly TensorData[] | undefined;
  /** The same values from other operators. */
  expand?(inputs: readonly (Value | null)[], attrs: A, node: Node<A>): readonly Value[];
  /**
   * Gradients with respect to the inputs, as values made of other operators: one for each input, null where there is none.
   * Absent, or undefined: the gradients of what `expand` gives; without that the operator is not differentiable.
   */
  vjp?(context: VjpContext, node: Node<A>): readonly (Value | null)[] | undefined;
  /** The same values with permuted axes, from inputs with permuted axes (layout pass); undefined: it cannot. Operators of kind "map" need none. */
  permute?(context: PermuteContext, node: Node<A>): readonly Value[] | undefined;
  /** `permute` moves the axes of the inputs only: the outputs are no images, and stay as they are. */
  readonly keepsOutputs?: boolean;
  /** Heddle's own, unknown to ONNX: no file is read or written with it; what it expands to is. */
  readonly own?: boolean;
  /** Runs faster with the channels (axis 1) innermost: the layout pass permutes it and all that follows. */
  readonly prefersChannelsLast?: boolean;
  /** For old opsets and irregular attributes; default: check attributes against `attrs`, apply. */
  importOnnx?(context: ImportContext): readonly Value[];
  /** What the integers of an output may be, where no expression tells: places along an axis. */
  range?(node: Node<A>, output: number): readonly [number, number] | undefined;
  /** Floating-point operations of a node; default: one an output element. */
  flops?(node: Node<A>): number;
  readonly samples?: readonly Sample<A>[];
}

/** Identity with type inference for `A`. Erases `A`, because graphs hold operators of every kind. */
export function defineOp<A extends object>(op: Op<A>): Op {
  return op as unknown as Op; // a node is only ever created with its own operator's attrs (apply)
}

/** Applies an operator: infers the output types and returns the new node's values. Throws HeddleError naming operator and origin. */
export function apply(op: Op, inputs: readonly (Value | null)[], attrs: Attrs = {}, from = ""): readonly Value[] {
  const full: Record<string, AttrValue> = {};
  for (const name in op.attrs) {
    const spec = op.attrs[name];
    const value = attrs[name] ?? spec.default;
    if (value === undefined && !spec.optional) throw new HeddleError("bad-model", `${op.name}: attribute ${name} is missing; from ${from}`);
    full[name] = value;
  }
  let types: readonly TensorType[];
  try {
    types = op.infer(inputs, full);
  } catch (e) {
    if (e instanceof HeddleError && from && !e.message.includes("; from "))
      throw new HeddleError(e.code, `${e.message}; from ${from}`, { cause: e });
    throw e;
  }
  return makeNode(op, inputs, full, types, from).outputs;
}

/** A node with known output types: for passes that change formats. */
export function makeNode(op: Op, inputs: readonly (Value | null)[], attrs: Attrs, types: readonly TensorType[], from: string): Node {
  const outputs: Value[] = [];
  const node: Node = { op, inputs, attrs, outputs, from };
  for (let index = 0; index < types.length; index++) outputs.push({ node, index, type: types[index] });
  return node;
}

/** The node on other inputs; the same node where they are the same. */
export function withInputs(node: Node, inputs: readonly (Value | null)[]): Node {
  for (let i = 0; i < inputs.length; i++) {
    if (inputs[i] === node.inputs[i]) continue;
    const types = node.outputs.map((o) => o.type);
    return makeNode(node.op, inputs, node.attrs, types, node.from);
  }
  return node;
}

/** Graphs never change, and many passes ask for the order of the same one. */
const orders = new WeakMap<Graph, readonly Node[]>();

/** Nodes that the outputs need, inputs before users, in a deterministic order. Iterative: deep graphs do not overflow the stack. */
export function topologicalOrder(graph: Graph): readonly Node[] {
  const known = orders.get(graph);
  if (known) return known;
  const order: Node[] = [];
  const done = new Set<Node>();
  for (const input of graph.inputs) visit(input.node, done, order);
  for (const { value } of graph.outputs) visit(value.node, done, order);
  orders.set(graph, order);
  return order;
}

/** Puts what the node needs, and the node, behind `order`. */
function visit(root: Node, done: Set<Node>, order: Node[]): void {
  if (done.has(root)) return;
  done.add(root);
  const path = [root];
  const next = [0]; // by place in the path: the input to look at
  while (path.length > 0) {
    const last = path.length - 1;
    const node = path[last];
    if (next[last] === node.inputs.length) {
      order.push(node);
      path.pop();
      next.pop();
      continue;
    }
    const input = node.inputs[next[last]++];
    if (!input || done.has(input.node)) continue;
    done.add(input.node);
    path.push(input.node);
    next.push(0);
  }
}

/** Graph → Graph; options are closed over. */
export interface Pass {
  readonly name: string;
  run(graph: Graph): Graph;
  /** `run` in pieces, where it may take long: it computes with weights. */
  pieces?(graph: Graph): Pieces<Graph>;
}

type Rewrite = (node: Node, inputs: readonly (Value | null)[]) => readonly Value[] | null;

/**
 * Rebuilds a graph bottom-up. `rewrite` gets each node with its inputs already rewritten and returns replacement values
 * (one for each output), or null to keep the node (it is copied only when an input changed). The same graph where nothing changes.
 */
export const rewriteGraph = (graph: Graph, rewrite: Rewrite): Graph => atOnce(rewriteInPieces(graph, rewrite));

/** rewriteGraph, node by node. */
export function* rewriteInPieces(graph: Graph, rewrite: Rewrite): Pieces<Graph> {
  const replaced = new Map<Value, Value>();
  const order = topologicalOrder(graph);
  for (let n = 0; n < order.length; n++) {
    const node = order[n];
    const inputs = replaced.size > 0 ? rewritten(node.inputs, replaced) : node.inputs;
    const outputs = rewrite(node, inputs) ?? (inputs === node.inputs ? node.outputs : withInputs(node, inputs).outputs);
    yield;
    if (outputs === node.outputs) continue;
    for (let i = 0; i < node.outputs.length; i++) if (outputs[i]) replaced.set(node.outputs[i], outputs[i]);
  }
  if (replaced.size === 0) return graph;
  return {
    inputs: graph.inputs.map((v) => replaced.get(v) ?? v),
    outputs: graph.outputs.map(({ name, value }) => ({ name, value: replaced.get(value) ?? value })),
  };
}

/** The values that took the place of others; the same list where none did. */
function rewritten(values: readonly (Value | null)[], replaced: ReadonlyMap<Value, Value>): readonly (Value | null)[] {
  for (let i = 0; i < values.length; i++) {
    const value = values[i];
    if (value && replaced.has(value)) return values.map((v) => (v ? (replaced.get(v) ?? v) : null));
  }
  return values;
}
