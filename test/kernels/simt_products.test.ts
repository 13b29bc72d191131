// Matrix products written for GPUs: tiles, few rows, parts of the depth, operands seen through transpositions, tails; against float64.
import { describe, expect, test } from "vitest";
import { apply, type Graph, type Value } from "../../src/ir/graph.ts";
import { elementCount, fromNumbers } from "../../src/ir/tensor.ts";
import { evaluateGraph, OPS } from "../../src/ops/index.ts";
import { input, inputName } from "../../src/ops/source.ts";
import { compileForGpu } from "../../src/run/gpu/program.ts";
import { expectClose, randomNumbers, useDevice } from "../run/devices.ts";
import { GPU_DEVICES } from "../run/gpu_devices.ts";

type Axes = readonly number[];
interface Case {
  readonly a: Axes;
  readonly b: Axes;
  /** Axes of the operands as MatMul sees them. */
  readonly permA?: Axes;
  readonly permB?: Axes;
  readonly tail?: boolean;
  /** Its depth is cut into parts. */
  readonly isParted?: boolean;
}

const CASES: readonly Case[] = [
  { a: [40, 33], b: [33, 50], tail: true },
  { a: [70, 16], b: [16, 64] },
  { a: [64, 64], b: [64, 128], tail: true },
  { a: [33, 40], b: [50, 33], permA: [1, 0], permB: [1, 0] },
  { a: [3, 20, 12], b: [12, 36], tail: true },
  { a: [2, 9, 3, 8], b: [2, 11, 3, 8], permA: [0, 2, 1, 3], permB: [0, 2, 3, 1], tail: true },
  { a: [2, 1, 9, 16], b: [3, 16, 10] },
  { a: [4, 1, 18, 5], b: [1, 3, 5, 17] },
  { a: [16, 700], b: [700, 16], tail: true, isParted: true },
  { a: [2, 12, 520], b: [2, 520, 12], tail: true, isParted: true },
  { a: [1, 200], b: [200, 77] },
  { a: [5, 64], b: [64, 96], tail: true },
  { a: [8, 64], b: [40, 64], permB: [1, 0], tail: true },
  { a: [100, 24], b: [24, 3], tail: true },
  { a: [2, 100, 48], b: [2, 48, 1] },
  { a: [70], b: [3, 70, 40] },
  { a: [3, 40, 70], b: [70] },
];

const op = (name: string, inputs: Value[], attrs = {}): Value => apply(OPS.get(name)!, inputs, attrs, name)[0]; // the test names operators that exist

function graphOf({ a, b, permA, permB, tail }: Case): Graph {
  const inputs = [input("a", { dtype: "f32", shape: a }), input("b", { dtype: "f32", shape: b })];
  const turned = [permA, permB].map((perm, i) => (perm ? op("Transpose", [inputs[i]], { perm }) : inputs[i]));
  const y = op("MatMul", turned);
  if (!tail) return { inputs, outputs: [{ name: "y", value: y }] };
  const { shape } = y.type;
  const bias = input("bias", { dtype: "f32", shape: [shape[shape.length - 1]] });
  const residual = input("residual", { dtype: "f32", shape });
  const value = op("Add", [op("Sigmoid", [op("Add", [y, bias])]), residual]);
  return { inputs: [...inputs, bias, residual], outputs: [{ name: "y", value }] };
}

describe.skipIf(GPU_DEVICES.length === 0).each(GPU_DEVICES)("$name", ({ open }) => {
  const device = useDevice(open);

  test.each(CASES.map((c) => [`(${c.a}) ${c.permA ?? ""} · (${c.b}) ${c.permB ?? ""}${c.tail ? " tail" : ""}`, c] as const))(
    "%s",
    async (name, c) => {
      const graph = graphOf(c);
      const inputs = Object.fromEntries(
        graph.inputs.map((v, i) => [inputName(v), fromNumbers("f32", v.type.shape, randomNumbers(i + 1, elementCount(v.type.shape)))]),
      );
      const program = await compileForGpu(graph, { device: device() });
      try {
        const names = program.kernels().map(({ kernel }) => kernel.name);
        expect(names.some((n) => n.endsWith("_parts"))).toBe(c.isParted === true);
        expect(names.some((n) => n.startsWith("Transpose"))).toBe(false);
        // Kernels written for products name their operands.
        expect(program.kernels().some(({ kernel }) => kernel.params[0].name === "left")).toBe(true);
        const want = evaluateGraph(graph, inputs);
        const got = await program.run(inputs);
        expectClose(got.y, want.y, name, 1e-4);
      } finally {
        program.free();
      }
    },
  );
});
