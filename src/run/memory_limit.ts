// Refuses a program that would take more memory than it may, before any of it is allocated.
import { totalmem } from "node:os";
import { HeddleError } from "../ir/error.ts";
import type { Value } from "../ir/graph.ts";
import type { Binding } from "./binding.ts";
import { byteSize } from "./cost.ts";

/** All memory that this process can have: a program that needs more would end it. */
const available = (): number => Math.min(totalmem(), process.constrainedMemory() || Number.POSITIVE_INFINITY);

/** The binding, if its memories fit. Throws HeddleError("limit") naming the largest tensor. */
export function withinMemory(binding: Binding, limit = available()): Binding {
  const total = binding.image().memories.reduce((n, { bytes }) => n + bytes, 0);
  if (total <= limit) return binding;
  throw new HeddleError(
    "limit",
    `model: for these shapes it takes ${mebibytes(total)}, the limit is ${mebibytes(limit)}${largest(binding)}; give smaller inputs or a higher memoryLimit`,
  );
}

const mebibytes = (bytes: number): string => `${Math.ceil(bytes / 2 ** 20)} MiB`;

function largest({ schedule }: Binding): string {
  const values = [...schedule.offsets.keys(), ...schedule.steps.flatMap((s) => s.node.inputs)].filter((v): v is Value => v !== null);
  if (values.length === 0) return "";
  const most = values.reduce((a, b) => (byteSize(b) > byteSize(a) ? b : a));
  const { type, node } = most;
  return `; the largest tensor is ${type.dtype}[${type.shape}] of ${node.op.name} ${node.from}, ${mebibytes(byteSize(most))}`;
}
