// Recurrent layers written out against their plain loops, with every attribute.
import { describe, expect, test } from "vitest";
import { type Attrs, apply, type Value } from "../../src/ir/graph.ts";
import { elementCount, fromNumbers, type TensorData, toNumbers } from "../../src/ir/tensor.ts";
import { evaluateNode, OPS } from "../../src/ops/index.ts";
import { input } from "../../src/ops/source.ts";

const [STEPS, BATCH, INPUT, HIDDEN] = [5, 3, 4, 6];

/** The golden ratio's multiples, which repeat nowhere. */
const draw = (shape: readonly number[], seed: number): TensorData =>
  fromNumbers("f32", shape, Array.from({ length: elementCount(shape) }, (_, i) => ((i + 1 + 31 * seed) * 0.618034) % 1.6 - 0.8)); // biome-ignore format: short

interface Case {
  readonly attrs: Attrs;
  readonly lengths?: boolean;
  readonly states?: boolean;
  readonly peepholes?: boolean;
}

const cases: readonly Case[] = [
  { attrs: {} },
  { attrs: { direction: "reverse" }, states: true },
  { attrs: { direction: "bidirectional" }, lengths: true, states: true },
  { attrs: { layout: 1, direction: "bidirectional" }, states: true },
  { attrs: { clip: 0.4 } },
  { attrs: { linear_before_reset: 1 }, lengths: true },
  { attrs: { input_forget: 1 }, peepholes: true },
];

function inputsOf(name: string, gates: number, { attrs, lengths, states, peepholes }: Case): (TensorData | null)[] {
  const d = attrs.direction === "bidirectional" ? 2 : 1;
  const state = attrs.layout ? [BATCH, d, HIDDEN] : [d, BATCH, HIDDEN];
  const isLstm = name === "LSTM";
  return [
    draw(attrs.layout ? [BATCH, STEPS, INPUT] : [STEPS, BATCH, INPUT], 1),
    draw([d, gates * HIDDEN, INPUT], 2),
    draw([d, gates * HIDDEN, HIDDEN], 3),
    draw([d, 2 * gates * HIDDEN], 4),
    lengths ? fromNumbers("i32", [BATCH], [5, 1, 3]) : null,
    states ? draw(state, 5) : null,
    ...(isLstm ? [states ? draw(state, 6) : null, peepholes ? draw([d, 3 * HIDDEN], 7) : null] : []),
  ];
}

function run(name: string, tensors: readonly (TensorData | null)[], attrs: Attrs): readonly TensorData[] {
  const values = tensors.map((t, i): Value | null => t && input(`x${i}`, t));
  return evaluateNode(apply(OPS.get(name)!, values, attrs)[0].node, tensors);
}

describe.each([
  ["RNN", 1],
  ["GRU", 3],
  ["LSTM", 4],
] as const)("%s", (name, gates) => {
  test.each(cases)("%j", (given) => {
    const tensors = inputsOf(name, gates, given);
    const [written, looped] = [run(name, tensors, given.attrs), run(`${name}Loop`, tensors, given.attrs)];
    expect(written.map((t) => t.shape)).toEqual(looped.map((t) => t.shape));
    for (const [i, t] of written.entries()) {
      const wanted = toNumbers(looped[i]);
      for (const [j, v] of toNumbers(t).entries()) expect(Math.abs(v - wanted[j]), `output ${i}, ${j}`).toBeLessThan(1e-5);
    }
  });
});

test.each([
  ...["Relu", "Tanh", "Sigmoid", "Affine", "LeakyRelu", "ThresholdedRelu"],
  ...["ScaledTanh", "HardSigmoid", "Elu", "Softsign", "Softplus"],
])("activation %s", (activation) => {
  const attrs = { activations: [activation], activation_alpha: [0.7], activation_beta: [0.3] };
  const tensors = inputsOf("RNN", 1, { attrs });
  const [[written], [looped]] = [run("RNN", tensors, attrs), run("RNNLoop", tensors, attrs)];
  const wanted = toNumbers(looped);
  for (const [j, v] of toNumbers(written).entries()) expect(Math.abs(v - wanted[j]), `${j}`).toBeLessThan(1e-5);
});

test("sequences that are too long to be written out still run", () => {
  const long = 700;
  const tensors = [draw([long, 1, 2], 1), draw([1, 2, 2], 2), draw([1, 2, 2], 3)];
  const [[written], [looped]] = [run("RNN", tensors, {}), run("RNNLoop", tensors, {})];
  expect(toNumbers(written)).toEqual(toNumbers(looped));
});
