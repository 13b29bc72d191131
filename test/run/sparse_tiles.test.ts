// Sparse products that follow each other hand their activations on in tiles: against float64, and only where nothing else reads them.
import { describe, expect, test } from "vitest";
import { apply, type Graph, type Value } from "../../src/ir/graph.ts";
import { fromNumbers, type TensorData } from "../../src/ir/tensor.ts";
import { OPS } from "../../src/ops/index.ts";
import { constantValue, input } from "../../src/ops/source.ts";
import { bindGraph } from "../../src/run/compile.ts";
import { tensorBytes } from "../../src/run/cost.ts";
import { USUAL_RATES } from "../../src/run/implement/sparse_cost.ts";
import { boundPlaces } from "../../src/run/step.ts";
import { DEVICES, expectCompiledRight, randomNumbers, useDevice } from "./devices.ts";

const op = (name: string, ...inputs: Value[]): Value => apply(OPS.get(name)!, inputs, {}, name)[0]; // the test names operators that exist
const withAttrs = (name: string, attrs: Readonly<Record<string, number | number[]>>, ...inputs: Value[]): Value =>
  apply(OPS.get(name)!, inputs, attrs, name)[0]; // the same

function dense(seed: number, ...shape: number[]): TensorData {
  const count = shape.reduce((a, b) => a * b, 1);
  return fromNumbers("f32", shape, randomNumbers(seed, count));
}

/** Weights of which a fifth is left. */
function weights(seed: number, ...shape: number[]): Value {
  const count = shape.reduce((a, b) => a * b, 1);
  const keep = randomNumbers(seed + 1, count);
  return constantValue(
    fromNumbers(
      "f32",
      shape,
      randomNumbers(seed, count).map((x, i) => (keep[i] < -0.6 ? x : 0)),
    ),
  );
}

const linear = (x: Value, outputs: number, seed = outputs): Value => {
  const { shape } = x.type;
  return op("MatMul", x, weights(seed, shape[shape.length - 1], outputs));
};
const biased = (x: Value, seed = 5): Value => op("Add", x, constantValue(dense(seed, x.type.shape[x.type.shape.length - 1])));
const relu = (x: Value): Value => op("Relu", x);
const gelu = (x: Value): Value => {
  const [half, one, root] = [0.5, 1, Math.SQRT2].map((v) => constantValue(fromNumbers("f32", [], [v])));
  return op("Mul", op("Mul", x, half), op("Add", op("Erf", op("Div", x, root)), one));
};
/** Windows of so many pixels over x (n, h, w, c), as the layout pass leaves them. */
const windows = (x: Value, outputs: number, side: number): Value => {
  const [, , , channels] = x.type.shape;
  const first = withAttrs("Transpose", { perm: [0, 3, 1, 2] }, x);
  const pads = Array.from({ length: 4 }, () => (side - 1) / 2);
  const conv = withAttrs("Conv", { pads }, first, weights(outputs, outputs, channels, side, side), constantValue(dense(6, outputs)));
  return withAttrs("Transpose", { perm: [0, 2, 3, 1] }, conv);
};
const reshaped = (x: Value, ...shape: number[]): Value => op("Reshape", x, constantValue(fromNumbers("i64", [shape.length], shape)));

interface Case {
  readonly name: string;
  readonly shape: readonly number[];
  readonly network: (x: Value) => Value | readonly Value[];
  /** Tensors that lie in tiles. */
  readonly tiled: number;
}

/** Columns fill neither vectors nor tiles, so that tensors in tiles are larger than others. */
const cases: readonly Case[] = [
  { name: "two layers", shape: [37, 300], network: (x) => linear(relu(biased(linear(x, 70))), 90), tiled: 1 },
  { name: "four layers", shape: [101, 70], network: (x) => linear(relu(linear(biased(linear(linear(x, 129), 300)), 40)), 33), tiled: 3 },
  { name: "a tail too long for registers", shape: [75, 270], network: (x) => linear(gelu(biased(linear(x, 300))), 65), tiled: 1 },
  { name: "few columns", shape: [3, 130], network: (x) => linear(relu(linear(x, 100)), 30), tiled: 1 },
  { name: "strips of many rows", shape: [50, 64], network: (x) => linear(relu(linear(x, 1200)), 300), tiled: 1 },
  { name: "batches of rows", shape: [2, 3, 17, 70], network: (x) => linear(biased(linear(x, 50)), 31), tiled: 1 },
  { name: "another shape of as many rows", shape: [2, 21, 70], network: (x) => linear(reshaped(linear(x, 66), 42, 66), 31), tiled: 1 },
  { name: "two readers", shape: [45, 80], network: (x) => { const h = relu(linear(x, 90)); return [linear(h, 40), relu(linear(h, 50))]; }, tiled: 1 }, // biome-ignore format: a line each
  { name: "1×1 windows", shape: [1, 5, 13, 40], network: (x) => relu(windows(relu(windows(x, 70, 1)), 33, 1)), tiled: 1 },
  { name: "other windows first", shape: [1, 5, 13, 40], network: (x) => windows(relu(windows(x, 70, 3)), 33, 1), tiled: 1 },
  { name: "other windows last", shape: [1, 5, 13, 40], network: (x) => windows(relu(windows(x, 70, 1)), 33, 3), tiled: 0 },
  { name: "a sum after the second", shape: [37, 66], network: (x) => op("Add", linear(relu(linear(x, 90)), 66), x), tiled: 1 },
  { name: "a sum after the first", shape: [37, 66], network: (x) => linear(op("Add", linear(x, 66), x), 90), tiled: 0 },
  { name: "a row for each after the first", shape: [37, 66], network: (x) => linear(op("Add", linear(x, 66), constantValue(dense(7, 37, 1))), 90), tiled: 0 }, // biome-ignore format: a line each
  { name: "a result that is wanted, too", shape: [37, 66], network: (x) => { const h = linear(x, 90); return [h, linear(h, 40)]; }, tiled: 0 }, // biome-ignore format: a line each
  { name: "other readers", shape: [37, 66], network: (x) => { const h = linear(x, 90); return [withAttrs("Softmax", { axis: -1 }, h), linear(h, 40)]; }, tiled: 0 }, // biome-ignore format: a line each
  { name: "a reader that adds it", shape: [37, 66], network: (x) => { const h = linear(x, 66); return op("Add", linear(h, 66, 8), h); }, tiled: 0 }, // biome-ignore format: a line each
  { name: "another number of columns", shape: [42, 70], network: (x) => linear(reshaped(linear(x, 66), 84, 33), 31), tiled: 0 },
];

const graphOf = ({ shape, network }: Case): Graph => {
  const x = input("x", { dtype: "f32", shape });
  const made = network(x);
  const outputs = (Array.isArray(made) ? made : [made]) as readonly Value[];
  return { inputs: [x], outputs: outputs.map((value, i) => ({ name: `out${i}`, value })) };
};

describe.each(DEVICES)("$name", ({ open }) => {
  const device = useDevice(open);
  /** All layers walk panels: code for their patterns is for networks that stay near, and blocks are predicted to be slower. */
  const options = () => {
    const { near: _, ...rates } = USUAL_RATES[device().target.name];
    const sparse = { ...rates.sparse, nonzero: 1e-6, vector: 1e-6, visit: 1e-6, channel: 1e-6, once: 0 };
    return { sparse: "always", sparseRates: { ...rates, sparse } } as const;
  };

  test.each(cases)("$name", async (one) => {
    const inputs = { x: dense(4, ...one.shape) };
    for (const isSeparate of [false, true]) await expectCompiledRight(graphOf(one), inputs, device(), one.name, isSeparate, options());
  });

  test.each(cases)("$name: $tiled in tiles", (one) => {
    const { schedule } = bindGraph(graphOf(one), { device: device(), ...options() });
    const larger = new Set<Value>();
    for (const { calls } of schedule.steps)
      for (const { place, bytes } of (calls ?? []).flatMap((call) => [...boundPlaces(call)]))
        if (place.k === "value" && bytes > tensorBytes(place.value.type)) larger.add(schedule.owners.get(place.value) ?? place.value);
    expect(larger.size).toBe(one.tiled);
    for (const v of larger) expect(schedule.sizes.get(v)).toBeGreaterThan(tensorBytes(v.type));
  });
});
