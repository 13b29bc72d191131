// Det: determinants of square matrices.
import { HeddleError } from "../ir/error.ts";
import { defineOp, type Op } from "../ir/graph.ts";
import { elementCount, fromNumbers, toNumbers } from "../ir/tensor.ts";
import { FLOATS, f32, inputType } from "./define.ts";

/** Gaussian elimination with the largest pivot of each column; overwrites m (n,n). */
function determinant(m: Float64Array, n: number): number {
  let result = 1;
  for (let c = 0; c < n; c++) {
    let pivot = c;
    for (let r = c + 1; r < n; r++) if (Math.abs(m[r * n + c]) > Math.abs(m[pivot * n + c])) pivot = r;
    if (m[pivot * n + c] === 0) return 0;
    if (pivot !== c) {
      result = -result;
      for (let k = 0; k < n; k++) [m[c * n + k], m[pivot * n + k]] = [m[pivot * n + k], m[c * n + k]];
    }
    result *= m[c * n + c];
    for (let r = c + 1; r < n; r++) {
      const factor = m[r * n + c] / m[c * n + c];
      for (let k = c; k < n; k++) m[r * n + k] -= factor * m[c * n + k];
    }
  }
  return result;
}

const Det: Op = defineOp<object>({
  name: "Det",
  kind: "opaque",
  attrs: {},
  infer(inputs) {
    const { dtype, shape } = inputType("Det", inputs, 0, FLOATS);
    if (shape.length < 2 || shape.at(-1) !== shape.at(-2))
      throw new HeddleError("bad-model", `Det: (${shape}) does not hold square matrices`);
    return [{ dtype, shape: shape.slice(0, -2) }];
  },
  evaluate([x]) {
    const { dtype, shape } = x!; // checked by infer
    const n = shape[shape.length - 1];
    const values = toNumbers(x!);
    const out = shape.slice(0, -2);
    const results = Array.from({ length: elementCount(out) }, (_, i) => determinant(values.slice(i * n * n, (i + 1) * n * n), n));
    return [fromNumbers(dtype, out, results)];
  },
  flops: (node) => elementCount(node.inputs[0]!.type.shape) * node.inputs[0]!.type.shape[node.inputs[0]!.type.shape.length - 1],
  samples: [{ inputs: [f32(3, 3)] }, { inputs: [f32(2, 2, 4, 4)] }, { inputs: [f32(1, 1)] }],
});

export const detOps: readonly Op[] = [Det];
