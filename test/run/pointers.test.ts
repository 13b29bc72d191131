// Large inputs and outputs are used where they are: results must not depend on it, and arrays of earlier runs must stay as they were.
import { expect, test } from "vitest";
import { openDevice } from "../../src/devices/open.ts";
import { apply, type Graph } from "../../src/ir/graph.ts";
import { elementCount, fromNumbers, type TensorData, toNumbers } from "../../src/ir/tensor.ts";
import { evaluateGraph, OPS } from "../../src/ops/index.ts";
import { constantValue, input } from "../../src/ops/source.ts";
import { compile } from "../../src/run/compile.ts";
import { expectClose, randomNumbers } from "./devices.ts";

const random = (seed: number, ...shape: number[]): TensorData => fromNumbers("f32", shape, randomNumbers(seed, elementCount(shape)));

/** x is read by two products, one result is given out twice, and one output is a view of another input. */
function graph(): Graph {
  const x = input("x", { dtype: "f32", shape: [96, 128] });
  const z = input("z", { dtype: "f32", shape: [64, 128] });
  const op = (name: string, ...inputs: Parameters<typeof apply>[1]) => apply(OPS.get(name)!, inputs, {}, name)[0]; // operators that exist
  const a = op("MatMul", x, constantValue(random(3, 128, 80)));
  const b = op("Add", x, constantValue(random(4, 128)));
  const flat = op("Reshape", z, constantValue(fromNumbers("i64", [1], [8192])));
  return {
    inputs: [x, z],
    outputs: [
      { name: "a", value: a },
      { name: "b", value: b },
      { name: "again", value: b },
      { name: "flat", value: flat },
    ],
  };
}

test.each(["cpu", "wasm"] as const)("device %s", async (name) => {
  const device = await openDevice({ device: name, threads: 2 });
  const program = await compile(graph(), { device });
  const runs = [1, 2, 3].map((seed) => {
    // An array that begins in the middle of a buffer, and one that is shared between threads.
    const inner = random(seed, 96, 128);
    const data = new Float32Array(new ArrayBuffer(4 * (inner.data.length + 3)), 12, inner.data.length);
    data.set(inner.data as Float32Array);
    const shared = new Float32Array(new SharedArrayBuffer(4 * 64 * 128));
    shared.set(random(seed + 10, 64, 128).data as Float32Array);
    return { x: { ...inner, data }, z: { dtype: "f32", shape: [64, 128], data: shared } } satisfies Record<string, TensorData>;
  });
  const results = [];
  for (const [i, inputs] of runs.entries()) results.push(await program.run(inputs, i === 1));
  for (const [i, inputs] of runs.entries()) {
    const want = evaluateGraph(graph(), inputs);
    for (const key of Object.keys(want)) expectClose(results[i][key], want[key], `run ${i}: ${key}`);
  }
  expect(toNumbers(results[0].b)).toEqual(toNumbers(results[0].again));
  expect(results[0].b.data).not.toBe(results[0].again.data);
  program.profile(runs[0]);
  expectClose(results[2].a, evaluateGraph(graph(), runs[2]).a, "profile() wrote into an array it gave out");
  program.free();
  device.close();
});
