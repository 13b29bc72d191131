// Operators that a device's library computes faster than our kernels, to its calls.
import type { Op } from "../../ir/graph.ts";
import type { GpuKernel } from "../../ir/library_kernel.ts";
import { Conv } from "../../ops/conv.ts";
import { MatMul } from "../../ops/matmul.ts";
import type { KernelCall } from "../step.ts";
import { libraryConvolution } from "./library_conv.ts";
import { libraryProducts } from "./library_gemm.ts";
import type { GpuTask } from "./product_calls.ts";

/** Null: there is no library, or none for this operator, its shapes and types. */
export function libraryCalls(task: GpuTask): readonly KernelCall<GpuKernel>[] | null {
  const op: Op = task.anchor.op;
  if (op === Conv) return libraryConvolution(task);
  return op === MatMul && task.target.hasGemm ? libraryProducts(task) : null;
}
