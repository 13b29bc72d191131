// Inputs that keep their values between runs: in place and copied, in chains and swaps, with readers of the old value before the write.
import { describe, expect, test } from "vitest";
import { type Attrs, apply, type Graph, type Value } from "../../src/ir/graph.ts";
import { elementCount, fromNumbers, type TensorData } from "../../src/ir/tensor.ts";
import { evaluateGraph, OPS } from "../../src/ops/index.ts";
import { constantValue, input, inputName } from "../../src/ops/source.ts";
import type { CpuStateSpec } from "../../src/run/compile.ts";
import { compile } from "../../src/run/compile.ts";
import { DEVICES, expectClose, randomNumbers, useDevice } from "./devices.ts";

const random = (seed: number, ...shape: number[]): TensorData => fromNumbers("f32", shape, randomNumbers(seed, elementCount(shape)));
const op = (name: string, inputs: (Value | null)[], attrs: Attrs = {}): Value => apply(OPS.get(name)!, inputs, attrs, name)[0]; // the test names operators that exist
const f32 = (name: string, ...shape: number[]): Value => input(name, { dtype: "f32", shape });
const scalar = (x: number): Value => constantValue(fromNumbers("f32", [], [x]));
const transposed = (x: Value): Value => op("Transpose", [x], { perm: [1, 0] });

interface Case {
  readonly name: string;
  readonly graph: Graph;
  readonly state: readonly CpuStateSpec[];
  /** Copies at the end or of old values. */
  readonly copies: number;
}

/** State s becomes output s'. */
function make(name: string, copies: number, states: readonly string[], inputs: Value[], outputs: Readonly<Record<string, Value>>): Case {
  const graph = { inputs, outputs: Object.entries(outputs).map(([n, value]) => ({ name: n, value })) };
  return { name, graph, copies, state: states.map((s) => ({ input: s, output: `${s}'` })) };
}

/** Two layers and their gradients' step, outputs in the order given: the second weights are read by the first layer's gradient. */
function twoLayers(order: readonly string[]): Case {
  const [x, a, b, y] = [f32("x", 9, 20), f32("a", 20, 33), f32("b", 33, 7), f32("y", 9, 7)];
  const hidden = op("Relu", [op("MatMul", [x, a])]);
  const error = op("Sub", [op("MatMul", [hidden, b]), y]);
  const gradB = op("MatMul", [transposed(hidden), error]);
  const gradHidden = op("Mul", [op("MatMul", [error, transposed(b)]), op("Sign", [hidden])]);
  const gradA = op("MatMul", [transposed(x), gradHidden]);
  const stepped = (w: Value, g: Value): Value => op("Sub", [w, op("Mul", [op("Tanh", [g]), scalar(0.01)])]);
  const all: Record<string, Value> = {
    loss: op("ReduceSum", [op("Mul", [error, error])], { keepdims: 0 }),
    "a'": stepped(a, gradA),
    "b'": stepped(b, gradB),
  };
  return make(`two layers, outputs ${order}`, 0, ["a", "b"], [x, a, b, y], Object.fromEntries(order.map((n) => [n, all[n]])));
}

/** A moment that a product adds to, and weights that read the new moment. */
function momentum(): Case {
  const [x, w, m] = [f32("x", 40, 50), f32("w", 50, 50), f32("m", 50, 50)];
  const next = op("Add", [op("Mul", [m, scalar(0.9)]), op("MatMul", [transposed(x), op("Tanh", [op("MatMul", [x, w])])])]);
  return make("momentum", 0, ["w", "m"], [x, w, m], { "w'": op("Sub", [w, op("Mul", [next, scalar(0.1)])]), "m'": next });
}

/** Weights that read two new moments, of which each has its own old value: one kernel. */
function moments(): Case {
  const [w, m, s, x] = ["w", "m", "s", "x"].map((name) => f32(name, 13, 21));
  const mean = op("Add", [op("Mul", [m, scalar(0.9)]), op("Mul", [x, scalar(0.1)])]);
  const square = op("Add", [op("Mul", [s, scalar(0.99)]), op("Mul", [x, x])]);
  const step = op("Div", [mean, op("Add", [op("Sqrt", [op("Abs", [square])]), scalar(0.5)])]);
  return make("two moments", 0, ["w", "m", "s"], [w, m, s, x], { "w'": op("Sub", [w, step]), "m'": mean, "s'": square });
}

const CASES: readonly Case[] = [
  moments(),
  (() => {
    const n = input("n", { dtype: "i64", shape: [] });
    return make("a counter", 0, ["n"], [n], { "n'": op("Add", [n, constantValue(fromNumbers("i64", [], [1]))]) });
  })(),
  twoLayers(["loss", "a'", "b'"]),
  twoLayers(["b'", "a'", "loss"]),
  momentum(),
  (() => {
    const [s, t, x] = [f32("s", 7, 5), f32("t", 7, 5), f32("x", 7, 5)];
    return make("a swap", 3, ["s", "t"], [s, t, x], { "s'": t, "t'": s, y: op("Add", [op("Mul", [s, x]), t]) });
  })(),
  (() => {
    const [s, x] = [f32("s", 33), f32("x", 33)];
    return make("the old value is an output", 1, ["s"], [s, x], { "s'": op("Add", [s, x]), old: s });
  })(),
  (() => {
    const [s, x] = [f32("s", 33), f32("x", 33)];
    const next = op("Add", [s, x]);
    return make("the new value is an output", 0, ["s"], [s, x], { "s'": next, y: next, z: op("Mul", [next, x]) });
  })(),
  (() => {
    const [s, x] = [f32("s", 6, 6), f32("x", 6, 6)];
    return make("read at another place", 1, ["s"], [s, x], { "s'": op("Add", [transposed(s), x]) });
  })(),
  (() => {
    const [s, x] = [f32("s", 6, 20), f32("x", 6, 20)];
    const mean = op("ReduceMean", [s], { axes: [1] });
    return make("read at other places before", 0, ["s"], [s, x], { "s'": op("Add", [op("Sub", [s, mean]), x]) });
  })(),
  (() => {
    const [s, t, x] = [f32("s", 33), f32("t", 33), f32("x", 33)];
    const next = op("Add", [op("Mul", [s, t]), x]);
    return make("two states of one value", 1, ["s", "t"], [s, t, x], { "s'": next, "t'": next });
  })(),
  (() => {
    const [s, t, x] = [f32("s", 33), f32("t", 33), f32("x", 33)];
    return make("unchanged, and a constant", 1, ["s", "t"], [s, t, x], {
      "s'": s,
      "t'": constantValue(random(3, 33)),
      y: op("Add", [op("Mul", [s, x]), t]),
    });
  })(),
  (() => {
    const [s, x] = [f32("s", 4, 9), f32("x", 36)];
    const next = op("Reshape", [op("Add", [op("Reshape", [s, constantValue(fromNumbers("i64", [1], [36]))]), x]), constantValue(fromNumbers("i64", [2], [4, 9]))]);
    return make("reshaped", 0, ["s"], [s, x], { "s'": next });
  })(),
  (() => {
    const [s, t] = ["s", "t"].map((n) => input(n, { dtype: "bool", shape: [83] }));
    const x = f32("x", 83);
    return make("booleans", 1, ["s", "t"], [s, t, x], { "s'": op("Or", [s, op("Less", [x, scalar(0)])]), "t'": s });
  })(),
  (() => {
    // No vector register holds it: JavaScript computes it.
    const s = input("s", { dtype: "f64", shape: [13] });
    return make("float64", 0, ["s"], [s], { "s'": op("Add", [s, s]) });
  })(),
]; // biome-ignore format: short cases

const RUNS = 3;
const PROFILED = 1;

describe.each(DEVICES)("$name", ({ open, guardPages }) => {
  const device = useDevice(open);

  const draw = (v: Value, seed: number): TensorData => {
    const numbers = randomNumbers(seed, elementCount(v.type.shape));
    return fromNumbers(
      v.type.dtype,
      v.type.shape,
      v.type.dtype === "f32" || v.type.dtype === "f64" ? numbers : numbers.map((x) => (x > 0 ? 1 : 0)),
    );
  };

  test.each(CASES.map((c) => [c.name, c] as const))("%s", async (name, { graph, state, copies }) => {
    const program = await compile(graph, { device: device(), state, separateTensors: guardPages });
    try {
      const steps = program.schedule.steps.filter((s) => s.node.op.name === "Identity");
      expect(steps.length, "copies").toBe(copies);
      const isState = (v: Value): boolean => state.some((s) => s.input === inputName(v));
      let states = Object.fromEntries(graph.inputs.filter(isState).map((v, i) => [inputName(v), draw(v, 50 + i)]));
      expect(program.stateNames).toEqual(state.map((s) => s.input));
      for (const [n, t] of Object.entries(states)) program.setState(n, t);
      for (let run = 0; run < RUNS; run++) {
        const given = Object.fromEntries(graph.inputs.filter((v) => !isState(v)).map((v, i) => [inputName(v), draw(v, 10 * run + i)]));
        const want = evaluateGraph(graph, { ...given, ...states });
        const got = run === PROFILED ? {} : await program.run(given);
        if (run === PROFILED) program.profile(given);
        states = Object.fromEntries(state.map((s) => [s.input, want[s.output]]));
        for (const [n, t] of Object.entries(states)) expectClose(program.getState(n), t, `${name}, run ${run}: ${n}`);
        for (const [n, t] of Object.entries(got)) expectClose(t, want[n], `${name}, run ${run}: ${n}`);
        if (run !== PROFILED)
          expect(Object.keys(got).sort()).toEqual(
            Object.keys(want)
              .filter((n) => !state.some((s) => s.output === n))
              .sort(),
          );
      }
    } finally {
      program.free();
    }
  });

  test("two programs share a state's memory", async () => {
    const [s, x] = [f32("s", 50), f32("x", 50)];
    const memory = device().alloc(200);
    const add: Graph = { inputs: [s, x], outputs: [{ name: "s'", value: op("Add", [s, x]) }] };
    const [t, y] = [f32("t", 50), f32("y", 50)];
    const read: Graph = {
      inputs: [t, y],
      outputs: [
        { name: "t'", value: t },
        { name: "z", value: op("Mul", [t, y]) },
      ],
    };
    const first = await compile(add, { device: device(), state: [{ input: "s", output: "s'", memory }] });
    const second = await compile(read, { device: device(), state: [{ input: "t", output: "t'", memory }] });
    first.setState("s", random(1, 50));
    await first.run({ x: random(2, 50) });
    const { z } = await second.run({ y: random(3, 50) });
    const sum = first.getState("s").data;
    expectClose(
      z,
      fromNumbers(
        "f32",
        [50],
        randomNumbers(3, 50).map((v, i) => v * Number(sum[i])),
      ),
      "product",
    );
    first.free();
    expectClose(second.getState("t"), { dtype: "f32", shape: [50], data: sum }, "after the other program is gone");
    second.free();
    memory.free();
  });

  test("mistakes are named", async () => {
    const [s, x] = [f32("s", 3), f32("x", 3)];
    const graph: Graph = {
      inputs: [s, x],
      outputs: [
        { name: "y", value: op("Add", [s, x]) },
        { name: "n", value: op("ReduceSum", [x], { keepdims: 0 }) },
      ],
    };
    const compiled = async (state: readonly CpuStateSpec[]) => compile(graph, { device: device(), state });
    await expect(compiled([{ input: "a", output: "y" }])).rejects.toThrow("no input a");
    await expect(compiled([{ input: "s", output: "b" }])).rejects.toThrow("no output b");
    await expect(compiled([{ input: "s", output: "n" }])).rejects.toThrow("output n is f32[], wanted f32[3]");
    await expect(
      compiled([
        { input: "s", output: "y" },
        { input: "x", output: "y" },
      ]),
    ).rejects.toThrow("two states");
    const program = await compiled([{ input: "s", output: "y" }]);
    await expect(program.run({ x: random(1, 3) })).rejects.toThrow("state s was never set");
    expect(() => program.setState("s", random(1, 4))).toThrow("got f32[4], wanted f32[3]");
    expect(() => program.getState("z")).toThrow("it has s");
    program.free();
  });
});
