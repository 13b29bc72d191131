// NonMaxSuppression: the best boxes of each class that do not overlap a better one.
import { HeddleError } from "../ir/error.ts";
import { defineOp, type Op, type Value } from "../ir/graph.ts";
import { fromNumbers, type TensorData, toNumbers } from "../ir/tensor.ts";
import { constantNumbers, inputType, ints, tensorOf } from "./define.ts";
import { decisive } from "./dynamic.ts";

const OP = "NonMaxSuppression";

interface NmsAttrs {
  readonly center_point_box: number;
}

/** [y1, x1, y2, x2], the first corner smaller. */
type Box = readonly [number, number, number, number];

function boxAt(values: Float64Array, at: number, isCentered: boolean): Box {
  const [a, b, c, d] = values.subarray(at, at + 4);
  if (isCentered) return [b - d / 2, a - c / 2, b + d / 2, a + c / 2]; // x, y, width, height
  return [Math.min(a, c), Math.min(b, d), Math.max(a, c), Math.max(b, d)];
}

/** Area of the intersection over that of the union. */
function overlap(a: Box, b: Box): number {
  const height = Math.min(a[2], b[2]) - Math.max(a[0], b[0]);
  const width = Math.min(a[3], b[3]) - Math.max(a[1], b[1]);
  if (height <= 0 || width <= 0) return 0;
  const area = (r: Box) => (r[2] - r[0]) * (r[3] - r[1]);
  return (height * width) / (area(a) + area(b) - height * width);
}

interface Limits {
  readonly count: number;
  readonly iou: number;
  /** Boxes must score more than this. */
  readonly score: number;
}

/** Numbers of the boxes kept, best first; equal scores in the order given. */
function suppress(boxes: readonly Box[], scores: Float64Array, { count, iou, score }: Limits): number[] {
  const candidates = boxes.map((_, i) => i).filter((i) => scores[i] > score);
  candidates.sort((a, b) => scores[b] - scores[a] || a - b);
  const kept: number[] = [];
  for (const i of candidates) {
    if (kept.length >= count) break;
    if (kept.every((k) => overlap(boxes[k], boxes[i]) <= iou)) kept.push(i);
  }
  return kept;
}

/** boxes (batch, n, 4) · scores (batch, classes, n) → rows of batch, class, box. */
function selected(boxes: TensorData, scores: TensorData, limits: Limits, { center_point_box }: NmsAttrs): TensorData {
  const [batch, n] = boxes.shape;
  const classes = scores.shape[1];
  const [b, s] = [toNumbers(boxes), toNumbers(scores)];
  const rows: number[] = [];
  for (let i = 0; i < batch; i++) {
    const list = Array.from({ length: n }, (_, k) => boxAt(b, (i * n + k) * 4, center_point_box !== 0));
    for (let c = 0; c < classes; c++) {
      const at = (i * classes + c) * n;
      for (const k of suppress(list, s.subarray(at, at + n), limits)) rows.push(i, c, k);
    }
  }
  return fromNumbers("i64", [rows.length / 3, 3], rows);
}

function run(inputs: readonly (Value | null)[], attrs: NmsAttrs): TensorData {
  const [boxes, scores] = [0, 1].map((i) => inputType(OP, inputs, i, ["f32"]).shape);
  const fits = boxes.length === 3 && scores.length === 3 && boxes[2] === 4 && boxes[0] === scores[0] && boxes[1] === scores[2];
  if (!fits) throw new HeddleError("bad-model", `${OP}: boxes (${boxes}) and scores (${scores}), wanted (batch,n,4) and (batch,classes,n)`);
  const [count] = constantNumbers(OP, inputs, 2, "the number of boxes") ?? [0];
  const [iou] = constantNumbers(OP, inputs, 3, "the overlap threshold") ?? [0];
  const [score] = constantNumbers(OP, inputs, 4, "the score threshold") ?? [Number.NEGATIVE_INFINITY];
  return selected(decisive(OP, inputs, 0), decisive(OP, inputs, 1), { count, iou, score }, attrs);
}

const NonMaxSuppression: Op = defineOp<NmsAttrs>({
  name: OP,
  kind: "opaque",
  attrs: { center_point_box: { type: "int", default: 0 } },
  infer(inputs, attrs) {
    const { dtype, shape } = run(inputs, attrs);
    return [{ dtype, shape }];
  },
  evaluate: (_, node) => [run(node.inputs, node.attrs)],
  samples: [
    {
      inputs: [
        tensorOf("f32", [0, 0, 1, 1, 0, 0.1, 1, 1.1, 0, 5, 1, 6], [1, 3, 4]),
        tensorOf("f32", [0.9, 0.75, 0.6], [1, 1, 3]),
        ints(3),
        tensorOf("f32", [0.5]),
        tensorOf("f32", [0.1]),
      ],
    },
  ],
});

export const nonMaxSuppressionOps: readonly Op[] = [NonMaxSuppression];
