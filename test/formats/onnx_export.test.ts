// What exportOnnx writes, importGraph reads back with equal results: every operator's samples, and groups.
import { describe, expect, it } from "vitest";
import { exportOnnx } from "../../src/formats/onnx/export.ts";
import { importGraph } from "../../src/formats/onnx/import.ts";
import { readOnnx } from "../../src/formats/onnx/read.ts";
import { DTYPES } from "../../src/ir/dtype.ts";
import { apply, type Graph, type Op, topologicalOrder } from "../../src/ir/graph.ts";
import { Group, makeGroup } from "../../src/ir/group.ts";
import { elementCount, fromNumbers, type TensorData, toNumbers } from "../../src/ir/tensor.ts";
import { verifyGraph } from "../../src/ir/verify.ts";
import { evaluateGraph, OPS } from "../../src/ops/index.ts";
import { constantValue, input, inputName } from "../../src/ops/source.ts";

/** Numerical Recipes' linear congruential generator: the same numbers on every run. */
function generator(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

function sampleGraph(op: Op, sample: NonNullable<Op["samples"]>[number]): Graph {
  const values = sample.inputs.map((x, i) => x && ("data" in x ? constantValue(x) : input(`x${i}`, x)));
  const outputs = apply(op, values, sample.attrs ?? {}, "node");
  return { inputs: values.filter((v) => v?.node.op.name === "Input").map((v) => v!), outputs: outputs.map((value, i) => ({ name: `y${i}`, value })) }; // biome-ignore format: one idea
}

function randomInputs(graph: Graph, [lo, hi]: readonly [number, number] = [-2, 2]): Record<string, TensorData> {
  const next = generator(5);
  const draw = (dtype: TensorData["dtype"]) =>
    DTYPES[dtype].kind === "float" ? lo + (hi - lo) * next() : DTYPES[dtype].kind === "bool" ? Math.round(next()) : Math.floor(next() * 3);
  return Object.fromEntries(
    graph.inputs.map((v) => {
      const { dtype, shape } = v.type;
      return [
        inputName(v),
        fromNumbers(
          dtype,
          shape,
          Array.from({ length: elementCount(shape) }, () => draw(dtype)),
        ),
      ];
    }),
  );
}

/** Equal but for the rounding of float attributes, which are float32 in the file. */
function expectClose(got: Record<string, TensorData>, wanted: Record<string, TensorData>): void {
  expect(Object.keys(got)).toEqual(Object.keys(wanted));
  for (const [name, tensor] of Object.entries(wanted)) {
    expect([got[name].dtype, got[name].shape]).toEqual([tensor.dtype, tensor.shape]);
    const [a, b] = [toNumbers(got[name]), toNumbers(tensor)];
    const bad = b.findIndex((x, i) => !Object.is(a[i], x) && !(Math.abs(a[i] - x) <= 1e-6 * Math.max(1, Math.abs(x))));
    expect(bad < 0 ? "" : `element ${bad}: ${a[bad]}, wanted ${b[bad]}`).toBe("");
  }
}

describe("export", () => {
  for (const [name, op] of OPS) {
    if (op.own) continue;
    it(`${name} survives`, () => {
      for (const sample of op.samples ?? []) {
        const graph = sampleGraph(op, sample);
        const again = importGraph(readOnnx(exportOnnx(graph)));
        verifyGraph(again);
        const inputs = randomInputs(graph, sample.range);
        expectClose(evaluateGraph(again, inputs), evaluateGraph(graph, inputs));
      }
    });
  }
  it("writes operators of our own as what they are made of, or refuses them", () => {
    const [stop, places] = ["StopGradient", "PoolPlaces"].map((name) => sampleGraph(OPS.get(name)!, OPS.get(name)!.samples![0]));
    expect(topologicalOrder(importGraph(readOnnx(exportOnnx(stop)))).some((n) => n.op.own)).toBe(false);
    expect(() => exportOnnx(places)).toThrow("PoolPlaces: it is not an operator of ONNX");
  });
  it("flattens groups, and keeps names of inputs and outputs", () => {
    const x = input("x", { dtype: "f32", shape: [2, 3] });
    const inner = input("0", x.type);
    const root = apply(OPS.get("Exp")!, [apply(OPS.get("Neg")!, [inner], {}, "neg")[0]], {}, "exp")[0];
    const group = makeGroup([x], { body: { inputs: [inner], outputs: [{ name: "o", value: root }] }, anchor: null }, "neg + exp");
    const twice = makeGroup([group.outputs[0]], { body: { inputs: [inner], outputs: [{ name: "o", value: root }] }, anchor: null }, "more");
    const constant = constantValue(fromNumbers("f32", [1], [3]), "three");
    const graph: Graph = {
      inputs: [x],
      outputs: [
        { name: "y", value: twice.outputs[0] },
        { name: "same", value: twice.outputs[0] },
        { name: "given", value: x },
        { name: "three", value: constant },
      ],
    };
    const again = importGraph(readOnnx(exportOnnx(graph)));
    expect(topologicalOrder(again).some((n) => n.op === Group)).toBe(false);
    expect(again.outputs.map((o) => o.name)).toEqual(["y", "same", "given", "three"]);
    const inputs = randomInputs(graph);
    expect(evaluateGraph(again, inputs)).toEqual(evaluateGraph(graph, inputs));
  });
});
