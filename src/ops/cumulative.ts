// CumSum: running sums along an axis.
import { defineOp, type Op } from "../ir/graph.ts";
import { elementCount, fromNumbers, type TensorData, toNumbers } from "../ir/tensor.ts";
import { f32, i32, inputType, NUMBERS, normalizeAxis, scalarOf } from "./define.ts";

interface CumSumAttrs {
  readonly exclusive: number;
  readonly reverse: number;
}

/** Sums over the lines of `axis`; 64-bit integers stay exact. */
function runningSum(x: TensorData, axis: number, { exclusive, reverse }: CumSumAttrs): TensorData {
  const n = x.shape[axis];
  const inner = elementCount(x.shape.slice(axis + 1));
  const lines = n === 0 ? 0 : x.data.length / n;
  const place = (line: number, k: number) => Math.floor(line / inner) * n * inner + (reverse ? n - 1 - k : k) * inner + (line % inner);
  if (x.data instanceof BigInt64Array || x.data instanceof BigUint64Array) {
    const data = x.data.slice();
    for (let line = 0; line < lines; line++)
      for (let k = 0, sum = 0n; k < n; k++) {
        const at = place(line, k);
        const value = x.data[at];
        data[at] = exclusive ? sum : sum + value;
        sum += value;
      }
    return { ...x, data };
  }
  const values = toNumbers(x);
  for (let line = 0; line < lines; line++)
    for (let k = 0, sum = 0; k < n; k++) {
      const at = place(line, k);
      const value = values[at];
      values[at] = exclusive ? sum : sum + value;
      sum += value;
    }
  return fromNumbers(x.dtype, x.shape, values);
}

const CumSum: Op = defineOp<CumSumAttrs>({
  name: "CumSum",
  kind: "opaque",
  attrs: { exclusive: { type: "int", default: 0 }, reverse: { type: "int", default: 0 } },
  infer(inputs) {
    inputType("CumSum", inputs, 1, ["i32", "i64"]);
    return [inputType("CumSum", inputs, 0, NUMBERS)];
  },
  evaluate([x, axis], node) {
    const [at] = toNumbers(axis!); // both were checked by infer
    return [runningSum(x!, normalizeAxis("CumSum", at, x!.shape.length), node.attrs)];
  },
  // Each element reaches all sums behind it: the same in the other direction.
  vjp: ({ build, grad }, { inputs: [, axis], attrs }) => [
    build.op("CumSum", [grad(0), axis], { ...attrs, reverse: attrs.reverse ? 0 : 1 }),
    null,
  ],
  samples: [
    { inputs: [f32(3, 17), scalarOf("i64", 1)] },
    { inputs: [f32(2, 5, 3), scalarOf("i32", -2)], attrs: { exclusive: 1 } },
    { inputs: [i32(7), scalarOf("i64", 0)], attrs: { reverse: 1 } },
    { inputs: [f32(2, 4), scalarOf("i64", 0)], attrs: { exclusive: 1, reverse: 1 } },
  ],
});

export const cumulativeOps: readonly Op[] = [CumSum];
