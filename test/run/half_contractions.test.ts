// Matrix products and convolutions of bfloat16 and float16 numbers as compiled for every device, against float64 on the same rounded numbers.
import { describe, expect, test } from "vitest";
import type { CpuDevice } from "../../src/devices/cpu.ts";
import { DTYPES, type DType } from "../../src/ir/dtype.ts";
import { type Attrs, apply, type Graph, type Value } from "../../src/ir/graph.ts";
import { elementCount, fromNumbers, type TensorData, toNumbers } from "../../src/ir/tensor.ts";
import { evaluateGraph, OPS } from "../../src/ops/index.ts";
import { constantValue, input } from "../../src/ops/source.ts";
import { compile, cpuBackend } from "../../src/run/compile.ts";
import { scheduleGraph } from "../../src/run/schedule.ts";
import { sparseRates } from "../../src/run/sparse_rates.ts";
import { DEVICES, randomNumbers, useDevice } from "./devices.ts";

const HALVES = ["bf16", "f16"] as const;
type Half = (typeof HALVES)[number];

const op = (name: string, inputs: (Value | null)[], attrs: Attrs = {}): Value => apply(OPS.get(name)!, inputs, attrs, name)[0]; // the test names operators that exist
const castTo = (x: Value, dtype: DType): Value => op("Cast", [x], { to: DTYPES[dtype].onnx });
const random = (seed: number, dtype: DType, shape: readonly number[]): TensorData =>
  fromNumbers(dtype, shape, randomNumbers(seed, elementCount(shape)));

/** A constant of this shape, in the type of the test. */
type MakeConstant = (shape: readonly number[]) => Value;

interface Case {
  readonly name: string;
  /** Products summed for one element. */
  readonly depth: number;
  readonly shapes: readonly (readonly number[])[];
  /** How much larger errors may be than those of plain sums: Winograd's intermediate values are. */
  readonly slack?: number;
  build(x: readonly Value[], constant: MakeConstant): Value;
}

// biome-ignore format: pairs of shapes
const MATRICES: readonly (readonly [readonly number[], readonly number[]])[] = [
  [[5, 8], [8, 7]],
  [[1, 64], [64, 40]],
  [[33, 66], [66, 130]],
  [[17, 31], [31, 50]],
  [[12, 1024], [1024, 70]],
  [[3, 9, 34], [3, 34, 20]],
  [[2, 4, 6], [6, 16]],
];

const products: readonly Case[] = MATRICES.flatMap(([a, b]): readonly Case[] => {
  const rank = b.length;
  const perm = [...b.slice(0, -2).keys(), rank - 1, rank - 2];
  const turned = perm.map((axis) => b[axis]);
  const depth = a[a.length - 1];
  return [
    { name: `(${a})·(${b})`, depth, shapes: [a, b], build: ([x, y]) => op("MatMul", [x, y]) },
    { name: `(${a})·turned(${turned})`, depth, shapes: [a, turned], build: ([x, y]) => op("MatMul", [x, op("Transpose", [y], { perm })]) },
    { name: `(${a})·constant(${b})`, depth, shapes: [a], build: ([x], constant) => op("MatMul", [x, constant(b)]) },
  ];
});

const WINOGRAD_SLACK = 16;

const conv = (name: string, x: readonly number[], w: readonly number[], attrs: Attrs, depth: number, slack = 1): readonly Case[] => {
  const channels = name === "Conv" ? w[0] : w[1] * ((attrs.group as number | undefined) ?? 1);
  const title = `${name} (${x}) by (${w}) ${JSON.stringify(attrs)}`;
  return [
    { name: title, depth, slack, shapes: [x, w, [channels]], build: (v) => op(name, [...v], attrs) },
    {
      name: `${title}, constants`,
      depth,
      slack,
      shapes: [x],
      build: ([v], constant) => op(name, [v, constant(w), constant([channels])], attrs),
    },
  ];
};

const convolutions: readonly Case[] = [
  ...conv("Conv", [2, 6, 5, 7], [18, 6, 1, 1], {}, 6),
  ...conv("Conv", [1, 7, 3, 4], [5, 7, 1, 1], {}, 7),
  ...conv("Conv", [2, 3, 9, 10], [8, 3, 3, 3], { strides: [2, 1], pads: [1, 0, 0, 1] }, 27),
  ...conv("Conv", [1, 16, 12, 13], [20, 16, 3, 3], { pads: [1, 1, 1, 1] }, 144, WINOGRAD_SLACK),
  ...conv("Conv", [1, 12, 8, 9], [20, 6, 5, 3], { group: 2, pads: [2, 1, 2, 1] }, 90),
  ...conv("Conv", [1, 21, 6, 5], [21, 1, 3, 3], { group: 21, pads: [1, 1, 1, 1] }, 9),
  ...conv("Conv", [1, 6, 20], [10, 6, 3], { pads: [1, 1], dilations: [2] }, 18),
  ...conv("ConvTranspose", [1, 8, 4, 5], [8, 6, 2, 2], { strides: [2, 2] }, 8),
  ...conv("ConvTranspose", [2, 16, 9, 10], [16, 18, 3, 3], { pads: [1, 1, 1, 1] }, 144, WINOGRAD_SLACK),
  {
    name: "ConvWeightGrad",
    depth: 2 * 7 * 5,
    shapes: [
      [2, 4, 7, 5],
      [2, 6, 7, 5],
    ],
    build: (v) => op("ConvWeightGrad", [...v], { kernel_shape: [3, 3], pads: [1, 1, 1, 1] }),
  },
];

const cases = [...products, ...convolutions];

const wide = (t: TensorData): TensorData => fromNumbers("f64", t.shape, toNumbers(t));
const magnitudes = (t: TensorData): TensorData => fromNumbers("f64", t.shape, toNumbers(t).map(Math.abs));

/** What a case gives in float64 for tensors that `see` makes of the given ones. */
function reference({ build, shapes }: Case, dtype: Half, given: readonly TensorData[], see: (t: TensorData) => TensorData): Float64Array {
  const values = shapes.map((shape, i) => input(`x${i}`, { dtype: "f64", shape }));
  const value = build(values, (shape) => constantValue(see(random(SEED, dtype, shape))));
  const inputs = Object.fromEntries(given.map((t, i) => [`x${i}`, see(t)]));
  return toNumbers(evaluateGraph({ inputs: values, outputs: [{ name: "y", value }] }, inputs).y);
}
const SEED = 5;

interface References {
  readonly want: Float64Array;
  /** The same sums of magnitudes. */
  readonly sizes: Float64Array;
}
const references = new Map<string, References>();
/** For all devices the same. */
function referencesOf(c: Case, dtype: Half, given: readonly TensorData[]): References {
  const key = `${c.name} ${dtype}`;
  const found = references.get(key) ?? { want: reference(c, dtype, given, wide), sizes: reference(c, dtype, given, magnitudes) };
  references.set(key, found);
  return found;
}

/** Half of the distance to the next number, relative: of float32 sums, and of results that are rounded to 16 bits. */
const ROUNDING = { f32: 2 ** -24, bf16: 2 ** -8, f16: 2 ** -11 } as const;
/** Below this float16 numbers are a fixed distance apart. */
const TINY = 2 ** -24;

/** Runs a case with a result of 16 bits or, cast in the same kernel, of 32. */
async function check(device: CpuDevice, c: Case, dtype: Half, output: Half | "f32"): Promise<void> {
  const values = c.shapes.map((shape, i) => input(`x${i}`, { dtype, shape }));
  const result = c.build(values, (shape) => constantValue(random(SEED, dtype, shape)));
  const graph: Graph = { inputs: values, outputs: [{ name: "y", value: output === dtype ? result : castTo(result, output) }] };
  const given = c.shapes.map((shape, i) => random(i + 1, dtype, shape));
  const program = await compile(graph, { device, separateTensors: true });
  try {
    const { y } = await program.run(Object.fromEntries(given.map((t, i) => [`x${i}`, t])));
    expect(y.dtype).toBe(output);
    const got = toNumbers(y);
    const { want, sizes } = referencesOf(c, dtype, given);
    const wrong = got.findIndex((x, i) => {
      const bound = (c.slack ?? 1) * (c.depth + 2) * ROUNDING.f32 * sizes[i];
      return !(Math.abs(x - want[i]) <= bound + (output === "f32" ? 0 : ROUNDING[output] * (Math.abs(want[i]) + bound) + TINY));
    });
    if (wrong >= 0) expect.fail(`element ${wrong} of ${got.length} is ${got[wrong]}, wanted ${want[wrong]}`);
  } finally {
    program.free();
  }
}

describe.each(DEVICES)("$name", ({ open }) => {
  const device = useDevice(open);

  describe.each(HALVES)("%s", (dtype) => {
    test.each(cases)("$name", async (c) => {
      for (const output of [dtype, "f32"] as const) await check(device(), c, dtype, output);
    });
  });

  test.each(HALVES)("nothing of %s is left to the interpreter", (dtype) => {
    for (const { build, shapes } of cases) {
      const values = shapes.map((shape, i) => input(`x${i}`, { dtype, shape }));
      const value = build(values, (shape) => constantValue(random(SEED, dtype, shape)));
      const { steps } = scheduleGraph(
        { inputs: values, outputs: [{ name: "y", value }] },
        cpuBackend(device(), { rates: sparseRates(device()) }),
      );
      expect(steps.filter((s) => s.calls === null).map((s) => s.node.op.name)).toEqual([]);
    }
  });
});
