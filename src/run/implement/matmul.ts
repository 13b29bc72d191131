// MatMul to kernels: constant right operands are packed when compiling, others by a kernel before the product.
import type { DType } from "../../ir/dtype.ts";
import type { Value } from "../../ir/graph.ts";
import type { SimdTarget } from "../../ir/kernel.ts";
import { elementCount } from "../../ir/tensor.ts";
import {
  columnSharers,
  type GemmFormat,
  type GemmShape,
  gemmKernel,
  packedElements,
  packPairs,
  packRight,
  scheduleGemm,
} from "../../kernels/gemm.ts";
import { packKernel } from "../../kernels/pack.ts";
import { batchMap, type MatMulGeometry, productGeometry } from "../../ops/matmul.ts";
import { constantOf } from "../../ops/source.ts";
import { type Implementation, type KernelCall, type Place, packedPlace, sharedKernel, tailPlaces, valuePlace } from "../step.ts";
import { constantFloats } from "./conv_task.ts";
import { sparseProduct } from "./sparse.ts";
import { transposed } from "./transposed.ts";

export const implementMatMul: Implementation = (task) => {
  const [a, b] = task.inputs as readonly [Value, Value]; // MatMul's inputs are never absent
  const geometry = productGeometry("MatMul", a.type.shape, b.type.shape);
  const { target, threads, name } = task;
  const format = formatOf(a.type.dtype, geometry.k, target);
  if (!format || elementCount(task.output.type.shape) === 0 || geometry.k === 0) return null;
  const right = format === "f16" || format === "bf16" ? { value: b, isTransposed: false } : rightSource(b);
  const sparse = sparseProduct(task, a, right, geometry);
  if (sparse) return sparse;
  const whole = gemmShape(geometry, format);
  if (!whole) return null;
  const weights = constantFloats(right.value);
  const shape = weights ? whole : { ...whole, columnSharers: columnSharers(whole, constantOf(a) !== null, target, threads) };
  const schedule = scheduleGemm(shape, target, task.epilogue.output.dtype);
  const key = JSON.stringify([shape, schedule]);
  const kernel = sharedKernel(task, `gemm ${key} ${task.epilogueKey}`, () =>
    gemmKernel(name, shape, schedule, task.epilogue, target, threads),
  );
  const strides = right.isTransposed ? { k: 1, n: geometry.k } : { k: geometry.n, n: 1 };
  const calls: KernelCall[] = [];
  let packed: Place;
  if (weights)
    packed = packedPlace((out) =>
      (format === "pairs" ? packPairs : packRight<Float32Array>)(weights, strides, shape, schedule, target, out),
    );
  else {
    packed = { k: "temporary", id: 0, bytes: 4 * packedElements(shape, schedule, target) };
    const pack = sharedKernel(task, `pack ${key} ${JSON.stringify(strides)}`, () =>
      packKernel(`${name}_pack`, { batch: geometry.k * geometry.n, ...strides }, shape, schedule, target, threads),
    );
    calls.push({ kernel: pack, places: [valuePlace(right.value), packed] });
  }
  calls.push({ kernel, places: [valuePlace(a), packed, ...tailPlaces(task)], storesPartialSums: schedule.depth < shape.k });
  return calls;
};

/** How the operands of a product are read; undefined: not by a kernel. */
export function formatOf(dtype: DType, k: number, target: SimdTarget): GemmFormat | undefined {
  if (dtype === "bf16" && target.dotsBf16 && k % 2 === 0) return "pairs";
  return dtype === "f32" || dtype === "f16" || dtype === "bf16" ? dtype : undefined;
}

/** One product of many rows where b is the same for all batches; batches of their own otherwise. Null: a broadcast that is neither. */
function gemmShape(g: MatMulGeometry, format: GemmFormat): GemmShape | null {
  const { m, n } = g;
  const k = format === "pairs" ? g.k / 2 : g.k;
  const count = elementCount(g.batch);
  const perLeft = elementCount(g.batchA);
  const perRight = elementCount(g.batchB);
  if (perRight === 1) {
    if (perLeft !== count) return null;
    return { format, batch: 1, m: count * m, n, k, left: { batch: 0, row: k }, isRightBatched: false, hasBias: false };
  }
  if (perRight !== count) return null;
  const left = batchMap(g.batch, g.batchA);
  const step = count > 1 ? left[1] - left[0] : 0;
  if (left.some((at, i) => at !== i * step)) return null;
  return { format, batch: count, m, n, k, left: { batch: step * m * k, row: k }, isRightBatched: true, hasBias: false };
}

/** The right operand, seen through a Transpose of its last two axes: packing reads it in any order. */
function rightSource(b: Value): { readonly value: Value; readonly isTransposed: boolean } {
  const source = transposed(b);
  const rank = b.type.shape.length;
  const swaps = source?.perm.every((axis, i) => axis === (i === rank - 1 ? rank - 2 : i === rank - 2 ? rank - 1 : i));
  return source && swaps && rank >= 2 ? { value: source.before, isTransposed: true } : { value: b, isTransposed: false };
}
