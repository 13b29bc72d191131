// Every sample of every operator gives the same result after all passes, as it is and behind a convolution that makes its input channels-last.
import { describe, expect, it } from "vitest";
import { apply, type Graph, type Op, type Sample, type Value } from "../../src/ir/graph.ts";
import { elementCount, fromNumbers, type TensorData, toNumbers } from "../../src/ir/tensor.ts";
import { evaluateGraph, OPS } from "../../src/ops/index.ts";
import { constantValue, input } from "../../src/ops/source.ts";
import { optimize } from "../../src/passes/pipeline.ts";
import { checkGroups } from "./groups.ts";
import { anchors, noise } from "./support.ts";

interface Case {
  readonly graph: Graph;
  readonly inputs: Record<string, TensorData>;
}

/** The operator on the sample's inputs; `prepare` may put something between the first input and the operator. */
function caseOf(op: Op, sample: Sample<object>, prepare: (x: Value) => Value = (x) => x): Case {
  const inputs: Record<string, TensorData> = {};
  const formal: Value[] = [];
  const [lo, hi] = sample.range ?? [-2, 2];
  const values = sample.inputs.map((t, i) => {
    if (!t || "data" in t) return t && constantValue(t);
    const name = `x${i}`;
    const draw = noise(elementCount(t.shape), i + 1).map((v) => lo + ((v + 1) / 2) * (hi - lo));
    inputs[name] = fromNumbers(t.dtype, t.shape, draw);
    const value = input(name, t);
    formal.push(value);
    return i === 0 ? prepare(value) : value;
  });
  const outputs = apply(op, values, { ...sample.attrs }, op.name).map((value, i) => ({ name: `y${i}`, value }));
  return { graph: { inputs: formal, outputs }, inputs };
}

function compare({ graph, inputs }: Case): void {
  const wanted = evaluateGraph(graph, inputs);
  for (const layout of [true, false]) {
    const result = optimize(graph, { anchors, layout });
    checkGroups(result);
    const got = evaluateGraph(result, inputs);
    for (const [name, w] of Object.entries(wanted)) {
      const g = got[name];
      expect([g.dtype, ...g.shape]).toEqual([w.dtype, ...w.shape]);
      const [a, b] = [toNumbers(w), toNumbers(g)];
      const scale = a.reduce((m, v) => (Number.isFinite(v) ? Math.max(m, Math.abs(v)) : m), 1);
      for (let i = 0; i < a.length; i++) {
        const isEqual = Object.is(a[i], b[i]) || Math.abs(a[i] - b[i]) <= 1e-5 * scale; // float32, sums in another order
        if (!isEqual) expect(`${name}[${i}] = ${b[i]}`).toBe(`${name}[${i}] = ${a[i]}`);
      }
    }
  }
}

/** A depthwise 1×1 convolution, so that what follows sees a channels-last value. Large factors keep the range. */
const behindConv = (x: Value): Value => {
  const { shape } = x.type;
  const ones = fromNumbers("f32", [shape[1], 1, ...shape.slice(2).map(() => 1)], new Array<number>(shape[1]).fill(1));
  return apply(OPS.get("Conv")!, [x, constantValue(ones)], { group: shape[1] }, "conv")[0];
};

const canFollowConv = ({ inputs: [x] }: Sample<object>): boolean =>
  x !== null && x !== undefined && !("data" in x) && x.dtype === "f32" && x.shape.length >= 3 && !x.shape.includes(0);

const withSamples = [...OPS.values()].filter((op) => op.samples && op.samples.length > 0);

describe("samples", () => {
  it.each(withSamples.map((op) => [op.name, op] as const))("%s", (_, op) => {
    for (const sample of op.samples!) {
      compare(caseOf(op, sample));
      if (canFollowConv(sample)) compare(caseOf(op, sample, behindConv));
    }
  });
});
