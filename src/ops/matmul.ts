// MatMul with broadcast batches, and Gemm made of it.
import type { DType } from "../ir/dtype.ts";
import { HeddleError } from "../ir/error.ts";
import { defineOp, type Node, type Op, type Value } from "../ir/graph.ts";
import { elementCount, fromNumbers, type Shape, stridesOf, toNumbers } from "../ir/tensor.ts";
import { builder } from "./build.ts";
import { broadcastShapes, emittable, FLOATS, f32, i32, inputType, sameDType, scalarOf, without } from "./define.ts";
import { matmulGradient } from "./matmul_gradient.ts";

export const MATMUL_TYPES: readonly DType[] = [...FLOATS, "i32", "i64", "u32", "u64"];

/** Sizes of a matrix product: batch… × (m,k) · (k,n) → (m,n). */
export interface MatMulGeometry {
  /** Broadcast batch axes of the output. */
  readonly batch: readonly number[];
  readonly batchA: readonly number[];
  readonly batchB: readonly number[];
  readonly m: number;
  readonly k: number;
  readonly n: number;
  readonly shape: Shape;
}

/** A vector on the left is a row, on the right a column; the axis made for it is dropped from the result. Throws where sizes differ. */
export function productGeometry(op: string, a: Shape, b: Shape): MatMulGeometry {
  if (a.length === 0 || b.length === 0)
    throw new HeddleError("bad-model", `${op}: a is (${a}), b is (${b}): a scalar has no axis to sum over`);
  const left = a.length === 1 ? [1, a[0]] : a;
  const right = b.length === 1 ? [b[0], 1] : b;
  const [m, k] = left.slice(-2);
  const [kb, n] = right.slice(-2);
  if (k !== kb) throw new HeddleError("bad-model", `${op}: inner sizes differ, a is (${a}), b is (${b})`);
  const [batchA, batchB] = [left.slice(0, -2), right.slice(0, -2)];
  const batch = broadcastShapes(op, [batchA, batchB]);
  const shape = [...batch, ...(a.length === 1 ? [] : [m]), ...(b.length === 1 ? [] : [n])];
  return { batch, batchA, batchB, m, k, n, shape };
}

/** Geometry of a node of MatMul. */
export const matMulGeometry = (node: Node): MatMulGeometry =>
  productGeometry(node.op.name, inputType(node.op.name, node.inputs, 0).shape, inputType(node.op.name, node.inputs, 1).shape);

/** Number of the matrix of an operand that belongs to each batch of the output. */
export function batchMap(batch: readonly number[], own: readonly number[]): Int32Array {
  const steps = stridesOf(own);
  const skip = batch.length - own.length;
  const map = new Int32Array(elementCount(batch));
  const at = new Array<number>(batch.length).fill(0);
  for (let i = 0; i < map.length; i++) {
    for (const [axis, d] of own.entries()) if (d !== 1) map[i] += at[skip + axis] * steps[axis];
    for (let axis = batch.length - 1; axis >= 0 && ++at[axis] === batch[axis]; axis--) at[axis] = 0;
  }
  return map;
}

/** Fewer rows are not worth putting columns of b side by side. */
const LEAST_ROWS = 8;

/** Matrix products in float64; each element's sum is in order of the depth. */
export function multiply(a: Float64Array, b: Float64Array, g: MatMulGeometry): Float64Array {
  const { m, k, n } = g;
  const [mapA, mapB] = [batchMap(g.batch, g.batchA), batchMap(g.batch, g.batchB)];
  const y = new Float64Array(mapA.length * m * n);
  const product = m < LEAST_ROWS ? productByRows : productByColumns;
  for (let batch = 0; batch < mapA.length; batch++) {
    const [ofA, ofB] = [mapA[batch] * m * k, mapB[batch] * k * n];
    product(a.subarray(ofA, ofA + m * k), b.subarray(ofB, ofB + k * n), y.subarray(batch * m * n, (batch + 1) * m * n), g);
  }
  return y;
}

/** b is read in order. */
function productByRows(a: Float64Array, b: Float64Array, y: Float64Array, { m, k, n }: MatMulGeometry): void {
  for (let i = 0; i < m; i++) {
    const row = y.subarray(i * n, (i + 1) * n);
    for (let p = 0; p < k; p++) {
      const [v, from] = [a[i * k + p], p * n];
      for (let j = 0; j < n; j++) row[j] += v * b[from + j];
    }
  }
}

/** Four columns of b side by side times all rows of a, in registers. */
function productByColumns(a: Float64Array, b: Float64Array, y: Float64Array, { m, k, n }: MatMulGeometry): void {
  const four = new Float64Array(4 * k);
  for (let j = 0; j < n; j += 4) {
    const width = Math.min(4, n - j);
    for (let p = 0; p < k; p++) for (let q = 0; q < width; q++) four[4 * p + q] = b[p * n + j + q];
    for (let i = 0; i < m; i++) {
      let [s0, s1, s2, s3] = [0, 0, 0, 0];
      for (let p = 0, at = i * k, q = 0; p < k; p++, at++, q += 4) {
        const v = a[at];
        s0 += v * four[q];
        s1 += v * four[q + 1];
        s2 += v * four[q + 2];
        s3 += v * four[q + 3];
      }
      const to = i * n + j;
      y[to] = s0;
      if (width > 1) y[to + 1] = s1;
      if (width > 2) y[to + 2] = s2;
      if (width > 3) y[to + 3] = s3;
    }
  }
}

export const MatMul: Op = defineOp<object>({
  name: "MatMul",
  kind: "contract",
  attrs: {},
  infer(inputs) {
    const types = [0, 1].map((i) => inputType("MatMul", inputs, i, MATMUL_TYPES));
    return [{ dtype: sameDType("MatMul", types), shape: productGeometry("MatMul", types[0].shape, types[1].shape).shape }];
  },
  evaluate([a, b]) {
    const g = productGeometry("MatMul", a!.shape, b!.shape); // both were checked by infer
    return [fromNumbers(a!.dtype, g.shape, multiply(toNumbers(a!), toNumbers(b!), g))];
  },
  vjp: matmulGradient,
  flops(node) {
    const { batch, m, k, n } = productGeometry("MatMul", node.inputs[0]!.type.shape, node.inputs[1]!.type.shape);
    return 2 * elementCount(batch) * m * k * n;
  },
  samples: [
    { inputs: [f32(3, 5), f32(5, 7)] },
    { inputs: [f32(2, 3, 4, 5), f32(3, 5, 17)] },
    { inputs: [f32(4, 1, 3, 2), f32(2, 2, 2)] },
    { inputs: [f32(5), f32(5)] },
    { inputs: [f32(5), f32(2, 5, 3)] },
    { inputs: [f32(2, 4, 5), f32(5)] },
    { inputs: [f32(33, 65), f32(65, 31)] },
    { inputs: [f32(3, 0), f32(0, 2)] },
    { inputs: [i32(2, 3), i32(3, 2)] },
  ],
});

interface GemmAttrs {
  readonly alpha: number;
  readonly beta: number;
  readonly transA: number;
  readonly transB: number;
}

function gemmShape(inputs: readonly (Value | null)[], { transA, transB }: GemmAttrs): number[] {
  const [a, b] = [0, 1].map((i) => inputType("Gemm", inputs, i, MATMUL_TYPES).shape);
  if (a.length !== 2 || b.length !== 2) throw new HeddleError("bad-model", `Gemm: a is (${a}), b is (${b}), wanted two axes each`);
  const [m, k] = transA ? a.toReversed() : a;
  const [kb, n] = transB ? b.toReversed() : b;
  if (k !== kb)
    throw new HeddleError("bad-model", `Gemm: inner sizes differ, a is (${a}), b is (${b}), transA ${transA}, transB ${transB}`);
  const c = inputs[2]?.type.shape;
  if (c && broadcastShapes("Gemm", [c, [m, n]]).join() !== [m, n].join())
    throw new HeddleError("bad-model", `Gemm: c (${c}) does not broadcast to (${m},${n})`);
  return [m, n];
}

/** alpha · a·b + beta · c. */
export const Gemm: Op = defineOp<GemmAttrs>({
  name: "Gemm",
  kind: "opaque",
  attrs: {
    alpha: { type: "float", default: 1 },
    beta: { type: "float", default: 1 },
    transA: { type: "int", default: 0 },
    transB: { type: "int", default: 0 },
  },
  infer(inputs, attrs) {
    const shape = gemmShape(inputs, attrs);
    const types = inputs.slice(0, 3).flatMap((v) => (v ? [v.type] : []));
    return [{ dtype: sameDType("Gemm", types), shape }];
  },
  expand([a, b, c], { alpha, beta, transA, transB }, node) {
    const build = builder(node.from);
    const { dtype } = node.outputs[0].type;
    const scaled = (x: Value, by: number) => (by === 1 ? x : build.op("Mul", [x, build.constant(dtype, by)]));
    const turned = (x: Value, isTurned: number) => (isTurned ? build.transpose(x, [1, 0]) : x);
    const product = scaled(build.op(MatMul, [turned(a!, transA), turned(b!, transB)]), alpha); // checked by infer
    return [c && beta !== 0 ? build.op("Add", [product, scaled(c, beta)]) : product];
  },
  // Before opset 7 c broadcast only when told so: what was valid then means the same now.
  importOnnx: ({ emit, inputs, attrs }) => emit(emittable(Gemm), inputs, without(attrs, ["broadcast"])),
  flops(node) {
    const { transA } = node.attrs;
    return 2 * elementCount(node.outputs[0].type.shape) * node.inputs[0]!.type.shape[transA ? 0 : 1];
  },
  samples: [
    { inputs: [f32(3, 5), f32(5, 7), f32(7)] },
    { inputs: [f32(5, 3), f32(7, 5), f32(3, 1)], attrs: { transA: 1, transB: 1, alpha: 0.5, beta: 2 } },
    { inputs: [f32(2, 3), f32(3, 4)], attrs: { alpha: 0.25 } },
    { inputs: [f32(2, 3), f32(3, 4), scalarOf("f32", 1.5)] },
  ],
});

export const matmulOps: readonly Op[] = [MatMul, Gemm];
