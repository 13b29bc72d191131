// Operators that remap their axes give the same values from permuted inputs: every sample, channels last and a rotation.
import { describe, expect, it } from "vitest";
import { type Attrs, apply, type Node, type Op, type Sample, type Value } from "../../src/ir/graph.ts";
import { elementCount, fromNumbers, type TensorData, toNumbers } from "../../src/ir/tensor.ts";
import { evaluateNode, OPS } from "../../src/ops/index.ts";
import { constantOf, constantValue, input } from "../../src/ops/source.ts";

const transposed = (x: TensorData, perm: readonly number[]): TensorData =>
  evaluateNode(apply(OPS.get("Transpose")!, [input("x", x)], { perm })[0].node, [x])[0];

/** Different numbers everywhere, so that a wrong place shows. */
const filled = (x: Sample<Attrs>["inputs"][number], seed: number): TensorData | null =>
  x && !("data" in x)
    ? fromNumbers(
        x.dtype,
        x.shape,
        Array.from({ length: elementCount(x.shape) }, (_, i) => ((i * 7 + seed * 5) % 23) / 8 + 0.25),
      )
    : x;

/** Runs the permuted form: `permuted(i)` values are the permuted inputs. */
function runPermuted(node: Node, inputs: readonly (TensorData | null)[], order: readonly number[]): readonly TensorData[] | undefined {
  const data = new Map<Value, TensorData>();
  const known = (t: TensorData): Value => {
    const value = input("p", t);
    data.set(value, t);
    return value;
  };
  const outputs = node.op.permute!(
    {
      order,
      permuted: (i) => known(transposed(inputs[i]!, order)),
      kept: (i) => (constantOf(node.inputs[i]) ? node.inputs[i] : inputs[i] && known(inputs[i])),
    },
    node,
  );
  if (!outputs) return undefined;
  const { node: made } = outputs[0];
  return evaluateNode(
    made,
    made.inputs.map((v) => v && (data.get(v) ?? constantOf(v)!)),
  );
}

function check(op: Op, sample: Sample<Attrs>, turn: (rank: number) => readonly number[]): boolean {
  const inputs = sample.inputs.map(filled);
  const values = inputs.map((t, i) => t && (sample.inputs[i] && "data" in sample.inputs[i] ? constantValue(t) : input(`x${i}`, t)));
  const { node } = apply(op, values, sample.attrs ?? {})[0];
  const order = turn(node.outputs[0].type.shape.length);
  if (order.length !== inputs[0]!.shape.length) return false;
  const got = runPermuted(node, inputs, order);
  if (!got) return false;
  const expected = evaluateNode(node, inputs).map((t) => (op.keepsOutputs ? t : transposed(t, order)));
  expect(got.map((t) => t.shape)).toEqual(expected.map((t) => t.shape));
  for (const [i, t] of got.entries()) {
    const want = toNumbers(expected[i]);
    expect(toNumbers(t).every((v, k) => Math.abs(v - want[k]) <= 1e-5 * (1 + Math.abs(v)))).toBe(true);
  }
  return true;
}

const channelsLast = (rank: number) => [0, ...Array.from({ length: Math.max(0, rank - 2) }, (_, i) => i + 2), ...(rank > 1 ? [1] : [])];
const channelsFirst = (rank: number) => (rank > 1 ? [0, rank - 1, ...Array.from({ length: rank - 2 }, (_, i) => i + 1)] : [0]);
const rotated = (rank: number) => Array.from({ length: rank }, (_, i) => (i + 1) % rank);

describe("permute", () => {
  for (const [name, op] of OPS) {
    if (!op.permute) continue;
    it(`${name} means the same`, () => {
      const done = [channelsLast, channelsFirst, rotated].map((turn) => (op.samples ?? []).filter((s) => check(op, s, turn)).length);
      expect(done[0]).toBeGreaterThan(0);
    });
  }
  it("is there for all that a convolution network runs through", () => {
    const names = [
      "Conv",
      "ConvTranspose",
      "MaxPool",
      "AveragePool",
      "Concat",
      "Slice",
      "Split",
      "Pad",
      "Resize",
      "ReduceMean",
      "Softmax",
      "LogSoftmax",
    ];
    expect(names.filter((n) => !OPS.get(n)!.permute)).toEqual([]);
    expect(names.filter((n) => OPS.get(n)!.prefersChannelsLast)).toEqual(["Conv", "ConvTranspose", "MaxPool", "AveragePool"]);
  });
  it("is refused where it cannot be", () => {
    const x = input("x", { dtype: "f32", shape: [1, 2, 5, 5] });
    const w = input("w", { dtype: "f32", shape: [3, 2, 3, 3] });
    const context = { order: [0, 3, 1, 2], permuted: () => x, kept: () => w };
    expect(OPS.get("Conv")!.permute!(context, apply(OPS.get("Conv")!, [x, w])[0].node)).toBeUndefined();
    const sum = apply(OPS.get("ReduceSum")!, [x], { keepdims: 0 })[0].node;
    expect(OPS.get("ReduceSum")!.permute!({ ...context, order: [0, 2, 3, 1] }, sum)).toBeUndefined();
  });
});
