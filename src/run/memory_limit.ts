// Refuses a program that would take more memory than it may, before any of it is allocated.
import { HeddleError } from "../ir/error.ts";
import type { Graph, Value } from "../ir/graph.ts";
import { availableBytes } from "./available_memory.ts";
import type { Binding } from "./binding.ts";
import { byteSize } from "./cost.ts";
import type { AnyKernel } from "./step.ts";

/** Inputs always take memory, so that too large ones are refused before kernels are made for them, which takes time by size in some. Throws HeddleError("limit"). */
export function assertInputsFit(graph: Graph, limit = availableBytes()): void {
  const total = graph.inputs.reduce((n, v) => n + byteSize(v), 0);
  if (total > limit) throw tooLarge(total, limit, graph.inputs);
}

/** The binding, if its memories fit. Throws HeddleError("limit") naming the largest tensor. */
export function withinMemory<K extends AnyKernel>(binding: Binding<K>, limit = availableBytes()): Binding<K> {
  const total = binding.memories.reduce((n, { bytes }) => n + bytes, 0);
  if (total <= limit) return binding;
  const { offsets, steps } = binding.schedule;
  throw tooLarge(
    total,
    limit,
    [...offsets.keys(), ...steps.flatMap((s) => s.node.inputs)].filter((v): v is Value => v !== null),
  );
}

const tooLarge = (total: number, limit: number, values: readonly Value[]): HeddleError =>
  new HeddleError(
    "limit",
    `model: for these shapes it takes at least ${mebibytes(total)}, the limit is ${mebibytes(limit)}${largest(values)}; give smaller inputs or a higher memoryLimit`,
  );

const mebibytes = (bytes: number): string => `${Math.ceil(bytes / 2 ** 20)} MiB`;

function largest(values: readonly Value[]): string {
  if (values.length === 0) return "";
  const most = values.reduce((a, b) => (byteSize(b) > byteSize(a) ? b : a));
  const { type, node } = most;
  return `; the largest tensor is ${type.dtype}[${type.shape}] of ${node.op.name} ${node.from}, ${mebibytes(byteSize(most))}`;
}
