// Between functions of tensors and graphs: a function as a graph with its parameters as constants, and a graph as part of a function.
import { HeddleError } from "../ir/error.ts";
import { type Graph, rewriteGraph, type Value } from "../ir/graph.ts";
import type { TensorData } from "../ir/tensor.ts";
import { Constant, constantOf, constantValue, Input, input, inputName } from "../ops/source.ts";
import { compute, fetched } from "./execute.ts";
import type { Parameter } from "./parameter.ts";
import { readCell } from "./state.ts";
import { structureOf } from "./structure.ts";
import { Tensor, tensorFrom, toValue } from "./tensor.ts";
import { applyOp, handleOf, type Storage, storageOf, tracing } from "./trace.ts";

export interface GraphNames {
  /** Default: x0, x1, … */
  readonly inputs?: readonly string[];
  /** Default: y0, y1, … */
  readonly outputs?: readonly string[];
  /** What the constants are called that parameters become. */
  readonly parameters?: Iterable<readonly [name: string, parameter: Parameter]>;
}

/**
 * What a function computes of tensors like these, as a graph: parameters and tensors from outside are its constants, as they are now.
 * What it assigns to parameters is left out.
 */
export async function toGraph(
  f: (...args: Tensor[]) => Tensor | readonly Tensor[],
  args: readonly Tensor[],
  names: GraphNames = {},
): Promise<Graph> {
  const { result, trace } = tracing(() => {
    const inputs = args.map((t, i) => input(names.inputs?.[i] ?? `x${i}`, { dtype: t.dtype, shape: t.shape }));
    const given = f(...inputs.map((v) => new Tensor(handleOf(v))));
    return { inputs, outputs: (given instanceof Tensor ? [given] : given).map(toValue) };
  });
  const states = [...trace.states.values()];
  const { graph, storages } = structureOf(result.outputs, [...result.inputs, ...states.map((s) => s.input)]);
  const called = new Map([...(names.parameters ?? [])].map(([name, { cell }]) => [cell, name]));
  const known = new Map<Value, { readonly storage: Storage; readonly name: string }>();
  for (const [i, storage] of storages.entries()) if (storage) known.set(graph.inputs[i], { storage, name: inputName(graph.inputs[i]) });
  for (const { cell, input: value } of states) {
    const handle = readCell(cell);
    compute([handle]);
    known.set(value, { storage: storageOf(handle.value)!, name: called.get(cell) ?? inputName(value) }); // compute has made it
  }
  const constants = new Map<Value, Value>();
  for (const [value, { storage, name }] of known) constants.set(value, constantValue(await fetched(storage), name));
  const { outputs } = rewriteGraph(graph, ({ op, outputs: [value] }) =>
    op === Input && constants.has(value) ? [constants.get(value)!] : null,
  ); // has() says that it is there
  return { inputs: result.inputs, outputs: outputs.map(({ value }, i) => ({ name: names.outputs?.[i] ?? `y${i}`, value })) };
}

/**
 * Applies a graph to tensors by the names of its inputs, and gives its outputs by name. `constant` may give tensors in place of the graph's constants:
 * parameters, to train it.
 */
export function applyGraph(
  graph: Graph,
  inputs: Readonly<Record<string, Tensor>>,
  constant: (data: TensorData, name: string) => Tensor | null = () => null,
): Record<string, Tensor> {
  const { outputs } = rewriteGraph(graph, (node, given) => {
    if (node.op === Input) return [toValue(inputs[inputName(node.outputs[0])] ?? missing(inputName(node.outputs[0])))];
    if (node.op === Constant) {
      const tensor = constant(constantOf(node.outputs[0])!, node.from); // it is a constant
      return tensor && [toValue(tensor)];
    }
    return given === node.inputs ? null : applyOp(node.op, given, node.attrs);
  });
  return Object.fromEntries(outputs.map(({ name, value }) => [name, tensorFrom(value)]));
}

function missing(name: string): never {
  throw new HeddleError("bad-input", `input ${name} is missing`);
}
