// Gradients of convolution weights of many shapes, alone and with an optimizer's step behind them, compiled for every device.
import { describe, test } from "vitest";
import { type Attrs, apply, type Graph, type Value } from "../../src/ir/graph.ts";
import { elementCount, fromNumbers, type TensorData } from "../../src/ir/tensor.ts";
import { OPS } from "../../src/ops/index.ts";
import { constantValue, input, inputName } from "../../src/ops/source.ts";
import { DEVICES, expectCompiledRight, randomNumbers, useDevice } from "./devices.ts";

const random = (seed: number, ...shape: number[]): TensorData => fromNumbers("f32", shape, randomNumbers(seed, elementCount(shape)));
const op = (name: string, inputs: (Value | null)[], attrs: Attrs = {}): Value => apply(OPS.get(name)!, inputs, attrs, name)[0]; // the test names operators that exist

/** A tap of each window, and one that there is not. */
const taps = (count: number, shape: readonly number[]): TensorData =>
  fromNumbers(
    "u8",
    shape,
    Array.from({ length: elementCount(shape) }, (_, i) => (i * 7 + (i >> 3)) % (count + 1)),
  );

interface Case {
  /** Batch, channels, spatial axes. */
  readonly x: readonly number[];
  readonly outChannels: number;
  readonly kernel: readonly number[];
  readonly attrs?: Attrs;
  /** w − 0.1 · gradient instead of the gradient. */
  readonly isStep?: boolean;
  /** Windows of the pool behind the convolution. */
  readonly pool?: readonly number[];
}

const pads = (n: number): Attrs => ({ pads: [n, n, n, n] });

const CASES: readonly Case[] = [
  { x: [3, 1, 12, 12], outChannels: 32, kernel: [3, 3], attrs: pads(1) },
  { x: [2, 32, 9, 11], outChannels: 64, kernel: [3, 3], attrs: pads(1), isStep: true },
  { x: [2, 32, 9, 11], outChannels: 45, kernel: [3, 3] },
  { x: [1, 3, 20, 21], outChannels: 16, kernel: [7, 7], attrs: { ...pads(3), strides: [2, 2] } },
  { x: [5, 20, 5, 4], outChannels: 70, kernel: [1, 1], isStep: true },
  { x: [2, 18, 7, 7], outChannels: 24, kernel: [1, 1], attrs: { strides: [2, 2] } },
  { x: [1, 13, 14, 9], outChannels: 20, kernel: [3, 2], attrs: { pads: [2, 0, 1, 1], dilations: [2, 1], strides: [1, 2] }, isStep: true },
  { x: [2, 12, 8, 9], outChannels: 20, kernel: [3, 3], attrs: { ...pads(1), group: 4 }, isStep: true },
  { x: [2, 32, 6, 9], outChannels: 66, kernel: [2, 2], attrs: { group: 2 } },
  { x: [2, 48, 9, 21], outChannels: 48, kernel: [3, 3], attrs: { ...pads(1), group: 48 }, isStep: true },
  { x: [1, 21, 10, 33], outChannels: 21, kernel: [5, 5], attrs: { ...pads(2), group: 21, strides: [2, 1] } },
  { x: [1, 24, 6, 4], outChannels: 24, kernel: [5, 5], attrs: { pads: [4, 2, 4, 2], group: 24, dilations: [2, 1] } },
  { x: [3, 6, 50], outChannels: 10, kernel: [3], attrs: { pads: [1, 1] } },
  { x: [1, 40, 3, 3], outChannels: 300, kernel: [3, 3], attrs: pads(1) },
  { x: [3, 20, 21, 14], outChannels: 40, kernel: [3, 3], attrs: pads(1), isStep: true },
  { x: [4, 33, 9, 30], outChannels: 17, kernel: [3, 3], attrs: { pads: [0, 2, 1, 0] } },
  { x: [1, 256, 4, 3], outChannels: 256, kernel: [3, 3], attrs: pads(1) },
  { x: [1, 4, 200, 300], outChannels: 8, kernel: [3, 3], attrs: pads(1) },
  { x: [3, 1, 28, 28], outChannels: 32, kernel: [3, 3], attrs: pads(1), pool: [2, 2], isStep: true },
  { x: [2, 3, 20, 21], outChannels: 19, kernel: [3, 2], pool: [3, 2] },
  { x: [1, 13, 98, 60], outChannels: 40, kernel: [3, 3], attrs: { ...pads(1), strides: [2, 1] }, pool: [7, 3] },
];

describe.each(DEVICES)("$name", ({ open, guardPages }) => {
  const device = useDevice(open);

  const nameOf = ({ x, outChannels, kernel, attrs, isStep, pool }: Case): string =>
    `(${x}) → ${outChannels} by (${kernel}) ${JSON.stringify({ ...attrs, pool })}${isStep ? " step" : ""}`;

  test.each(CASES.map((c) => [nameOf(c), c] as const))("%s", async (name, { x, outChannels, kernel, attrs, isStep, pool }) => {
    const data = input("x", { dtype: "f32", shape: x });
    const group = (attrs?.group as number | undefined) ?? 1;
    const weights = input("w", { dtype: "f32", shape: [outChannels, x[1] / group, ...kernel] });
    const { shape } = op("Conv", [data, weights], attrs).type;
    const gradient = input("dy", { dtype: "f32", shape: shape.map((d, i) => d / (i < 2 ? 1 : (pool?.[i - 2] ?? 1))) });
    const places = pool ? [input("places", { dtype: "u8", shape: gradient.type.shape })] : [];
    const dw = op(`${pool ? "Pooled" : ""}ConvWeightGrad`, [data, gradient, ...places], {
      ...attrs,
      kernel_shape: kernel,
      ...(pool && { pool }),
    });
    const y = isStep ? op("Sub", [weights, op("Mul", [dw, constantValue(random(1))])]) : dw;
    const graph: Graph = { inputs: [data, gradient, ...places, ...(isStep ? [weights] : [])], outputs: [{ name: "y", value: y }] };
    const given = {
      x: random(1, ...x),
      dy: random(2, ...gradient.type.shape),
      w: random(3, ...weights.type.shape),
      places: taps(elementCount(pool ?? []), gradient.type.shape),
    };
    const inputs = Object.fromEntries(graph.inputs.map((v) => [inputName(v), given[inputName(v) as keyof typeof given]]));
    await expectCompiledRight(graph, inputs, device(), name, guardPages);
  });
});
