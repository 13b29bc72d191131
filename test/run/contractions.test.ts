// Convolutions, transposed convolutions, pools and matrix products of many shapes, with epilogues, compiled for every device.
import { describe, test } from "vitest";
import { type Attrs, apply, type Graph, type Value } from "../../src/ir/graph.ts";
import { elementCount, fromNumbers, type TensorData } from "../../src/ir/tensor.ts";
import { OPS } from "../../src/ops/index.ts";
import { constantValue, input } from "../../src/ops/source.ts";
import { DEVICES, expectCompiledRight, randomNumbers, useDevice } from "./devices.ts";

const random = (seed: number, ...shape: number[]): TensorData => fromNumbers("f32", shape, randomNumbers(seed, elementCount(shape)));
const op = (name: string, inputs: (Value | null)[], attrs: Attrs = {}): Value => apply(OPS.get(name)!, inputs, attrs, name)[0]; // the test names operators that exist

interface Case {
  readonly name: string;
  readonly shapes: readonly (readonly number[])[];
  build(x: readonly Value[]): Value;
}

interface ConvCase {
  readonly x: readonly number[];
  readonly w: readonly number[];
  readonly attrs?: Attrs;
  readonly bias?: boolean;
  /** Activation and residual behind it. */
  readonly tail?: boolean;
}

/** With weights and bias that are constant, or inputs as in training. */
function conv(kind: "Conv" | "ConvTranspose", { x, w, attrs = {}, bias, tail }: ConvCase, isConstant: boolean): Case {
  const channels = kind === "Conv" ? w[0] : w[1] * ((attrs.group as number | undefined) ?? 1);
  return {
    name: `${kind} (${x}) by (${w}) ${JSON.stringify(attrs)}${bias ? " bias" : ""}${tail ? " tail" : ""}${isConstant ? "" : " computed"}`,
    shapes: isConstant ? [x] : [x, w, ...(bias ? [[channels]] : [])],
    build([v, weights, added]) {
      const constants = [constantValue(random(7, ...w)), ...(bias ? [constantValue(random(8, channels))] : [])];
      const y = op(kind, [v, ...(isConstant ? constants : [weights, added ?? null])], attrs);
      if (!tail) return y;
      const scaled = op("Mul", [op("HardSwish", [y]), constantValue(random(9, 1, channels, ...w.slice(2).map(() => 1)))]);
      return op("Add", [scaled, op("Sigmoid", [y])]);
    },
  };
}

const pads = (n: number, axes = 2): Attrs => ({ pads: new Array<number>(2 * axes).fill(n) });

const CONVS: readonly ConvCase[] = [
  { x: [1, 3, 17, 19], w: [16, 3, 3, 3], attrs: { ...pads(1), strides: [2, 2] }, bias: true },
  { x: [1, 5, 9, 40], w: [24, 5, 3, 3], attrs: pads(1), bias: true, tail: true },
  { x: [2, 20, 7, 6], w: [33, 20, 3, 3], attrs: pads(1), tail: true },
  { x: [1, 8, 12, 70], w: [40, 8, 1, 3], attrs: { pads: [0, 1, 0, 1] } },
  { x: [1, 8, 5, 5], w: [17, 8, 5, 5], attrs: pads(2), bias: true },
  { x: [1, 96, 40, 24], w: [24, 96, 3, 3], attrs: pads(1), bias: true, tail: true },
  { x: [2, 16, 13, 15], w: [33, 16, 3, 3], attrs: { pads: [1, 0, 0, 1] } },
  { x: [1, 19, 30, 5], w: [18, 19, 3, 3], attrs: { pads: [2, 2, 1, 0] }, bias: true },
  { x: [1, 4, 11, 13], w: [6, 4, 3, 3], attrs: { ...pads(2), dilations: [2, 2] } },
  { x: [1, 4, 11, 13], w: [6, 4, 3, 3], attrs: { pads: [0, 3, 1, 0], dilations: [1, 3], strides: [3, 1] } },
  { x: [1, 12, 8, 9], w: [20, 3, 3, 3], attrs: { ...pads(1), group: 4 }, bias: true, tail: true },
  { x: [2, 48, 9, 21], w: [48, 1, 3, 3], attrs: { ...pads(1), group: 48 }, bias: true, tail: true },
  { x: [1, 21, 10, 33], w: [21, 1, 5, 5], attrs: { ...pads(2), group: 21, strides: [2, 1] } },
  { x: [1, 24, 6, 4], w: [24, 1, 5, 5], attrs: { ...pads(2), group: 24, dilations: [2, 1] } },
  { x: [1, 40, 5, 7], w: [70, 40, 1, 1], bias: true, tail: true },
  { x: [3, 7, 2, 2], w: [5, 7, 1, 1] },
  { x: [1, 16, 9, 9], w: [18, 16, 1, 1], attrs: { strides: [2, 2] } },
  { x: [1, 240, 1, 1], w: [60, 240, 1, 1], bias: true, tail: true },
  { x: [1, 6, 50], w: [10, 6, 3], attrs: pads(1, 1), bias: true },
  { x: [1, 600, 3, 5], w: [32, 600, 3, 3], attrs: pads(1) },
  { x: [1, 256, 4, 18], w: [256, 256, 3, 3], attrs: pads(1), bias: true },
];

const TRANSPOSED: readonly ConvCase[] = [
  { x: [1, 24, 7, 9], w: [24, 24, 2, 2], attrs: { strides: [2, 2] }, bias: true, tail: true },
  { x: [1, 24, 20, 16], w: [24, 1, 2, 2], attrs: { strides: [2, 2] }, bias: true },
  { x: [1, 5, 6, 7], w: [5, 9, 3, 3], attrs: { strides: [2, 2], ...pads(1), output_padding: [1, 1] } },
  { x: [2, 4, 5, 6], w: [4, 3, 4, 4], attrs: { strides: [2, 2], ...pads(1) }, bias: true },
  { x: [1, 4, 5, 6], w: [4, 3, 3, 3], attrs: { dilations: [2, 2] } },
  { x: [1, 8, 5, 6], w: [8, 3, 3, 3], attrs: { group: 2, strides: [3, 1] } },
  { x: [2, 20, 12, 15], w: [20, 33, 3, 3], attrs: pads(1), bias: true, tail: true },
  { x: [1, 16, 20, 9], w: [16, 16, 3, 3], attrs: { pads: [2, 0, 1, 1] } },
  { x: [1, 21, 10, 17], w: [21, 1, 5, 5], attrs: { ...pads(2), group: 21, strides: [2, 1] }, bias: true },
  { x: [1, 4, 9], w: [4, 6, 5], attrs: { strides: [2] } },
  { x: [2, 4, 5, 6], w: [4, 7, 1, 1], attrs: { strides: [2, 3], output_padding: [1, 0] }, bias: true },
  { x: [1, 9, 5, 6], w: [9, 1, 2, 1], attrs: { group: 9, strides: [3, 2] }, tail: true },
];

const pool = (name: string, x: readonly number[], attrs: Attrs): Case => ({
  name: `${name} (${x}) ${JSON.stringify(attrs)}`,
  shapes: [x],
  build: ([v]) => op(name, [v], attrs),
});

const POOLS: readonly Case[] = [
  pool("MaxPool", [1, 20, 9, 31], { kernel_shape: [3, 3], ...pads(1), strides: [2, 2] }),
  pool("MaxPool", [2, 16, 8, 8], { kernel_shape: [2, 2], strides: [2, 2] }),
  pool("AveragePool", [1, 33, 9, 10], { kernel_shape: [3, 3], ...pads(1) }),
  pool("AveragePool", [1, 33, 9, 10], { kernel_shape: [3, 2], pads: [1, 0, 1, 0], count_include_pad: 1, strides: [3, 2] }),
  pool("AveragePool", [1, 8, 7, 7], { kernel_shape: [3, 3], strides: [2, 2], ceil_mode: 1 }),
  pool("MaxPool", [1, 8, 30], { kernel_shape: [4], strides: [3], dilations: [2] }),
];

/** a times constant or computed b, plus a bias, through Relu. */
function product(a: readonly number[], b: readonly number[], isConstant: boolean): Case {
  return {
    name: `MatMul (${a}) · (${b})${isConstant ? " constant" : ""}`,
    shapes: isConstant ? [a] : [a, b],
    build([x, y]) {
      const z = op("MatMul", [x, isConstant ? constantValue(random(5, ...b)) : y]);
      return op("Relu", [op("Add", [z, constantValue(random(6, b[b.length - 1]))])]);
    },
  };
}

const PRODUCTS: readonly Case[] = [
  ...[
    [1, 1, 1],
    [1, 300, 70],
    [2, 17, 33],
    [33, 5, 100],
    [40, 120, 361],
    [65, 700, 48],
    [130, 1100, 200],
    [3, 2000, 1030],
    [96, 512, 512],
  ].flatMap(([m, k, n]) => [product([m, k], [k, n], true), product([m, k], [k, n], false)]),
  product([2, 8, 40, 15], [2, 8, 15, 40], false),
  product([5, 7, 12], [12, 20], true),
  product([7, 12], [5, 12, 20], false),
  product([2, 1, 7, 12], [3, 12, 20], false),
  {
    name: "MatMul of a transposed right operand",
    shapes: [
      [2, 19, 24],
      [2, 37, 24],
    ],
    build: ([a, b]) => op("MatMul", [a, op("Transpose", [b], { perm: [0, 2, 1] })]),
  },
  {
    name: "MatMul of a constant left operand",
    shapes: [[120, 270]],
    build: ([b]) => op("Relu", [op("MatMul", [constantValue(random(7, 300, 120)), b])]),
  },
  {
    name: "MatMul with a residual",
    shapes: [[33, 640]],
    build: ([a]) => op("Add", [op("MatMul", [a, constantValue(random(4, 640, 640))]), a]),
  },
];

const CASES: readonly Case[] = [
  ...CONVS.flatMap((c) => [conv("Conv", c, true), conv("Conv", c, false)]),
  ...TRANSPOSED.flatMap((c) => [conv("ConvTranspose", c, true), conv("ConvTranspose", c, false)]),
  ...POOLS,
  ...PRODUCTS,
];

describe.each(DEVICES)("$name", ({ open, guardPages }) => {
  const device = useDevice(open);

  test.each(CASES.map((c) => [c.name, c] as const))("%s", async (name, { shapes, build }) => {
    const values = shapes.map((shape, i) => input(`x${i}`, { dtype: "f32", shape }));
    const graph: Graph = { inputs: values, outputs: [{ name: "y", value: build(values) }] };
    const inputs = Object.fromEntries(shapes.map((shape, i) => [`x${i}`, random(i + 1, ...shape)]));
    await expectCompiledRight(graph, inputs, device(), name, guardPages);
  });
});
