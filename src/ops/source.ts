// Where values come from: graph inputs and constants.
import { apply, defineOp, type TensorType, type Value } from "../ir/graph.ts";
import type { TensorData } from "../ir/tensor.ts";

export const Input = defineOp<{ name: string; type: TensorType }>({
  name: "Input",
  kind: "source",
  attrs: { name: { type: "string" }, type: { type: "tensor" } },
  infer: (_, { type }) => [type],
});

export const Constant = defineOp<{ value: TensorData }>({
  name: "Constant",
  kind: "source",
  attrs: { value: { type: "tensor" } },
  infer: (_, { value }) => [{ dtype: value.dtype, shape: value.shape }],
  evaluate: (_, { attrs }) => [attrs.value],
});

export const input = (name: string, type: TensorType): Value => apply(Input, [], { name, type }, name)[0];
export const constantValue = (value: TensorData, from = ""): Value => apply(Constant, [], { value }, from)[0];

/** The tensor behind a constant value, or undefined when it is known only at run time. */
export function constantOf(value: Value | null | undefined): TensorData | undefined {
  return value && value.node.op === Constant ? (value.node.attrs as { value: TensorData }).value : undefined;
}

/** Name of a graph input. */
export const inputName = (value: Value): string => (value.node.attrs as { name: string }).name;
