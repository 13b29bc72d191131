// Every operator's samples run, and give what its type inference promised.
import { describe, expect, it } from "vitest";
import { DTYPES } from "../../src/ir/dtype.ts";
import { type Attrs, apply, type Op, type Sample, type TensorType, type Value } from "../../src/ir/graph.ts";
import { elementCount, fromNumbers, type TensorData, toNumbers } from "../../src/ir/tensor.ts";
import { evaluateNode, OPS } from "../../src/ops/index.ts";
import { constantValue, input } from "../../src/ops/source.ts";

/** Numerical Recipes' linear congruential generator: the same numbers on every run. */
function generator(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

function randomTensor({ dtype, shape }: TensorType, [lo, hi]: readonly [number, number], next: () => number): TensorData {
  const { kind } = DTYPES[dtype];
  const draw = () => {
    if (kind === "float") return lo + (hi - lo) * next();
    return kind === "bool" ? Math.round(next()) : Math.floor(next() * 7) - (kind === "int" ? 3 : 0);
  };
  return fromNumbers(dtype, shape, Array.from({ length: elementCount(shape) }, draw));
}

function runSample(op: Op, sample: Sample<Attrs>): { outputs: readonly TensorData[]; values: readonly Value[] } {
  const next = generator(7);
  const tensors = sample.inputs.map((x) => (x && !("data" in x) ? randomTensor(x, sample.range ?? [-2, 2], next) : x));
  const inputs = sample.inputs.map((x, i) => x && ("data" in x ? constantValue(x) : input(`x${i}`, x)));
  const values = apply(op, inputs, sample.attrs ?? {});
  return { outputs: evaluateNode(values[0].node, tensors), values };
}

describe("operator table", () => {
  for (const [name, op] of OPS) {
    it(`${name} keeps its promises`, () => {
      expect(op.name).toBe(name);
      expect([op.lower, op.evaluate, op.expand].filter(Boolean).length).toBeLessThanOrEqual(1);
      for (const sample of op.samples ?? []) {
        const { outputs, values } = runSample(op, sample);
        expect(outputs.map((t) => `${t.dtype}[${t.shape}]`)).toEqual(values.map((v) => `${v.type.dtype}[${v.type.shape}]`));
        for (const t of outputs) expect(t.data.length).toBe(elementCount(t.shape));
        const { flops } = op;
        if (flops) expect(flops(values[0].node)).toBeGreaterThanOrEqual(0);
      }
    });
  }
  it("gives finite values for every float sample of map operators", () => {
    for (const op of OPS.values()) {
      if (op.kind !== "map") continue;
      for (const sample of op.samples ?? []) {
        if (sample.inputs.some((x) => !x || "data" in x)) continue;
        for (const t of runSample(op, sample).outputs) expect([...toNumbers(t)].every(Number.isFinite), op.name).toBe(true);
      }
    }
  });
  it("refuses random operators clearly", () => {
    expect(() => apply(OPS.get("RandomNormal")!, [], { shape: [2] }, "noise")).toThrow("RandomNormal: it draws random numbers");
  });
  it("refuses shapes that depend on data clearly", () => {
    const x = input("x", { dtype: "f32", shape: [3] });
    expect(() => apply(OPS.get("NonZero")!, [x], {}, "find")).toThrow(
      "NonZero: the output's shape depends on data known only at run time; heddle compiles for fixed shapes; from find",
    );
    const shape = input("s", { dtype: "i64", shape: [1] });
    expect(() => apply(OPS.get("Reshape")!, [x, shape])).toThrow("Reshape: the shape is computed from data at run time");
  });
});
