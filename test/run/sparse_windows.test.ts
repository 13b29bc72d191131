// Convolutions with windows and sparse weights, compiled for every device: against float64, with padding, strides, dilation, few channels and one axis.
import { describe, expect, test } from "vitest";
import { type AttrValue, apply, type Graph } from "../../src/ir/graph.ts";
import { fromNumbers, type TensorData } from "../../src/ir/tensor.ts";
import { OPS } from "../../src/ops/index.ts";
import { constantValue, input } from "../../src/ops/source.ts";
import { compile } from "../../src/run/compile.ts";
import { USUAL_RATES } from "../../src/run/implement/sparse_cost.ts";
import { DEVICES, expectCompiledRight, randomNumbers, useDevice } from "./devices.ts";

const count = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);
const random = (seed: number, shape: readonly number[]): TensorData => fromNumbers("f32", shape, randomNumbers(seed, count(shape)));

function pruned(seed: number, shape: readonly number[], density: number): TensorData {
  const keep = randomNumbers(seed + 1, count(shape));
  return fromNumbers(
    "f32",
    shape,
    randomNumbers(seed, count(shape)).map((v, i) => ((keep[i] + 1) / 2 < density ? v : 0)),
  );
}

interface Case {
  readonly name: string;
  readonly image: readonly number[];
  readonly weights: readonly number[];
  readonly density: number;
  readonly attrs?: Readonly<Record<string, AttrValue>>;
}
const cases: readonly Case[] = [
  { name: "3×3, same size", image: [1, 32, 9, 11], weights: [40, 32, 3, 3], density: 0.1, attrs: { pads: [1, 1, 1, 1] } },
  { name: "3×3, inside only", image: [1, 16, 7, 8], weights: [20, 16, 3, 3], density: 0.3 },
  {
    name: "stride 2, few channels",
    image: [2, 5, 13, 9],
    weights: [7, 5, 3, 3],
    density: 0.4,
    attrs: { strides: [2, 2], pads: [1, 1, 1, 1] },
  },
  { name: "5×5, uneven padding", image: [1, 20, 6, 10], weights: [33, 20, 5, 5], density: 0.1, attrs: { pads: [2, 0, 1, 3] } },
  { name: "1×3", image: [1, 48, 1, 40], weights: [17, 48, 1, 3], density: 0.1, attrs: { pads: [0, 1, 0, 1] } },
  { name: "dilated", image: [1, 16, 12, 12], weights: [18, 16, 3, 3], density: 0.2, attrs: { dilations: [2, 3], pads: [2, 3, 2, 3] } },
  { name: "1×1 with strides", image: [1, 24, 9, 9], weights: [30, 24, 1, 1], density: 0.2, attrs: { strides: [2, 2] } },
  { name: "one axis", image: [2, 19, 50], weights: [21, 19, 4], density: 0.2, attrs: { pads: [1, 2] } },
  { name: "rows that no window reads", image: [1, 16, 10, 10], weights: [16, 16, 2, 2], density: 0.5, attrs: { strides: [3, 3] } },
];

function graphOf({ image, weights, density, attrs = {} }: Case): Graph {
  const x = input("x", { dtype: "f32", shape: image });
  const bias = constantValue(random(5, [weights[0]]));
  const y = apply(OPS.get("Conv")!, [x, constantValue(pruned(3, weights, density)), bias], attrs, "conv")[0]; // it exists
  return { inputs: [x], outputs: [{ name: "out", value: apply(OPS.get("Relu")!, [y], {}, "relu")[0] }] };
}

describe.each(DEVICES)("$name", ({ open }) => {
  const device = useDevice(open);

  test.each(cases)("$name", async (one) => {
    const graph = graphOf(one);
    for (const isSeparate of [false, true])
      await expectCompiledRight(graph, { x: random(4, one.image) }, device(), one.name, isSeparate, { sparse: "always" });
    const program = await compile(graph, { device: device(), sparse: "always" });
    expect(program.schedule.backend.sparse?.choices.map((c) => c.isSparse)).toEqual([true]);
    program.free();
  });

  test("by prediction: few nonzeros; fewer where Winograd's kernel runs, which is quicker on x86 than on WebAssembly", async () => {
    const chosen = async (density: number, strides: number[]): Promise<(boolean | undefined)[]> => {
      const attrs = { strides, pads: [1, 1, 1, 1] };
      const graph = graphOf({ name: "large", image: [1, 128, 24, 24], weights: [128, 128, 3, 3], density, attrs });
      const program = await compile(graph, { device: device(), sparseRates: USUAL_RATES[device().target.name] });
      const choices = program.schedule.backend.sparse!.choices.map((c) => c.isSparse); // processors have it
      program.free();
      return choices;
    };
    expect(await chosen(0.08, [2, 2])).toEqual([true]);
    expect(await chosen(0.8, [2, 2])).toEqual([]);
    expect(await chosen(0.3, [1, 1])).toEqual([device().target.name === "wasm"]); // measured: 1.8 times the dense kernel there, 0.7 and 0.6 on AVX2 and AVX-512
    expect(await chosen(0.8, [1, 1])).toEqual([]);
  });
});
