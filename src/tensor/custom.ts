// Functions with gradients of their own: customVjp, whose user says them, and checkpoint, which computes its function again for them.
import { defineOp, makeNode, type Node, type Op, type Value } from "../ir/graph.ts";
import { constantOf, Input } from "../ops/source.ts";
import { gradients } from "../passes/autodiff.ts";
import { after } from "./marks.ts";
import { type Tensor, tensorFrom, toValue } from "./tensor.ts";
import { applyOp, recording, refuse } from "./trace.ts";
import { type Flat, flatten } from "./tree.ts";

/** Gradients with respect to inputs of a function, from those with respect to its outputs (null: none). */
type Backward = (grads: readonly (Value | null)[], inputs: readonly Value[], outputs: readonly Value[]) => readonly (Value | null)[];

/** Gives `outputs` new names, behind which gradients do not go on to what they were computed from, but to `inputs`, as `backward` says. */
function withGradient(name: string, inputs: readonly Value[], outputs: readonly Value[], backward: Backward): readonly Value[] {
  const count = inputs.length;
  const mark: Op = defineOp<object>({
    name,
    kind: "opaque",
    own: true,
    attrs: {},
    infer: (all) => all.slice(count).map((v) => v!.type), // the outputs are there
    expand: (all) => all.slice(count).map((v) => v!),
    vjp({ grad }, node) {
      const all = node.inputs.map((v) => v!); // given below
      const grads = backward(outputs.map((_, i) => grad(i)), all.slice(0, count), node.outputs); // biome-ignore format: one call
      return [...grads, ...outputs.map(() => null)];
    },
  });
  return applyOp(mark, [...inputs, ...outputs]);
}

const rebuilt = <T>(flat: Flat, values: readonly Value[]): T => flat.rebuild(values.map((v) => tensorFrom(v))) as T; // the tree that was flattened

/**
 * A function whose gradient is `backward`: from the gradient with respect to its result, the arguments, and the result, to one for each argument (null: zero).
 */
export function customVjp<A extends readonly Tensor[]>(
  f: (...args: A) => Tensor,
  backward: (gradient: Tensor, args: A, result: Tensor) => { readonly [K in keyof A]: Tensor | null },
): (...args: A) => Tensor {
  return (...args) => {
    const result = toValue(f(...args));
    const outputs = withGradient("CustomVjp", args.map(toValue), [result], ([grad], inputs, [output]) => {
      const given = inputs.map((v) => tensorFrom(v)) as readonly Tensor[] as A; // one for each argument
      const grads = backward(tensorFrom(grad!), given, tensorFrom(output)); // of one output, and gradients are asked for
      if (grads.length !== args.length) refuse(`customVjp: ${grads.length} gradients for ${args.length} arguments`);
      return grads.map((g) => g && toValue(g));
    });
    return tensorFrom(outputs[0]);
  };
}

/** The same function; what it computes on the way to its result is not kept for the gradients, but computed again. Less memory, more work. */
export function checkpoint<A extends readonly unknown[], R>(f: (...args: A) => R): (...args: A) => R {
  return (...args) => {
    const { result, nodes } = recording(() => f(...args));
    const flat = flatten(result, "checkpoint");
    const ends = flat.tensors.map(toValue);
    const region = regionOf(ends, nodes);
    const outputs = withGradient("Checkpoint", region.inputs, ends, (grads, inputs) => {
      const first = grads.find((g) => g !== null)!; // there is one when gradients are asked for
      const again = region.inputs.map((_, i) => after(inputs[i], first));
      const copies = copyOf(region, again);
      const seeds = ends.flatMap((v, i) => (grads[i] ? [{ value: copies.get(v) ?? v, grad: grads[i] }] : []));
      return gradients(seeds, again);
    });
    return rebuilt(flat, outputs);
  };
}

/** Some of the nodes of a graph, inputs before users, and what they take from outside. */
interface Region {
  readonly order: readonly Node[];
  readonly inputs: readonly Value[];
}

/** What the values need of `nodes`. Constants are no inputs. */
function regionOf(ends: readonly Value[], nodes: ReadonlySet<Node>): Region {
  const order: Node[] = [];
  const inputs = new Set<Value>();
  const seen = new Set<Node>();
  const stack: { readonly node: Node; next: number }[] = [];
  const enter = (value: Value | null): void => {
    if (!value || constantOf(value)) return;
    if (!nodes.has(value.node) || value.node.op === Input) inputs.add(value);
    else if (!seen.has(value.node)) {
      seen.add(value.node);
      stack.push({ node: value.node, next: 0 });
    }
  };
  for (const value of ends) {
    enter(value);
    for (let top = stack.at(-1); top; top = stack.at(-1)) {
      if (top.next < top.node.inputs.length) enter(top.node.inputs[top.next++]);
      else order.push(stack.pop()!.node);
    }
  }
  return { order, inputs: [...inputs] };
}

/** The region's values, computed from other inputs. */
function copyOf({ order, inputs }: Region, others: readonly Value[]): ReadonlyMap<Value, Value> {
  const now = new Map(inputs.map((v, i) => [v, others[i]]));
  for (const node of order) {
    const from = node.inputs.map((v) => v && (now.get(v) ?? v));
    const copy = makeNode(node.op, from, node.attrs, node.outputs.map((o) => o.type), node.from); // biome-ignore format: short
    for (const [i, output] of copy.outputs.entries()) now.set(node.outputs[i], output);
  }
  return now;
}
