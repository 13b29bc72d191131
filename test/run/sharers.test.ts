// Kernels with little work are one thread's, where threads take longer to meet than they save; results are the same.
import { describe, expect, test } from "vitest";
import { apply, type Graph, type Value } from "../../src/ir/graph.ts";
import { fromNumbers } from "../../src/ir/tensor.ts";
import { OPS } from "../../src/ops/index.ts";
import { constantValue, input } from "../../src/ops/source.ts";
import { bindGraph } from "../../src/run/compile.ts";
import { type SparseRates, USUAL_RATES } from "../../src/run/implement/sparse_cost.ts";
import { sharersOf } from "../../src/run/sharers.ts";
import { DEVICES, expectCompiledRight, randomNumbers, useDevice } from "./devices.ts";

const op = (name: string, ...inputs: Value[]): Value => apply(OPS.get(name)!, inputs, {}, name)[0]; // the test names operators that exist

/** Weights, most of them zeros where `density` is small. */
function weights(seed: number, rows: number, columns: number, density: number): Value {
  const keep = randomNumbers(seed + 1, rows * columns);
  const numbers = randomNumbers(seed, rows * columns).map((x, i) => (keep[i] < 2 * density - 1 ? x : 0));
  return constantValue(fromNumbers("f32", [rows, columns], numbers));
}

/** Layers of a row: a large one, two small ones, a large one, two of few nonzeros. */
function network(): Graph {
  const x = input("x", { dtype: "f32", shape: [1, 300] });
  const linear = (v: Value, columns: number, density: number): Value =>
    op("Tanh", op("MatMul", v, weights(columns, v.type.shape[1], columns, density)));
  const [small, sparse] = [linear(linear(linear(x, 500, 1), 2, 1), 3, 1), (v: Value) => linear(linear(v, 130, 0.005), 140, 0.01)];
  return { inputs: [x], outputs: [{ name: "y", value: sparse(linear(small, 900, 1)) }] };
}

test("work is shared where that saves more than threads take to meet", () => {
  const shared = (threads: number, meeting: number, ns: number): number => sharersOf(threads, meeting, (n) => ns / n);
  // They take half as long again as without work.
  expect([shared(1, 200, 1e6), shared(2, 200, 599), shared(2, 200, 601), shared(2, 50, 151), shared(8, 200, 344)]).toEqual([1, 1, 2, 2, 8]);
});

describe.each(DEVICES)("$name", ({ open }) => {
  const device = useDevice(open);
  /** Those of a machine whose threads take so long to meet. */
  const ratesOf = (meeting: number): SparseRates => {
    const { near: _, ...rates } = USUAL_RATES[device().target.name];
    return { ...rates, vector: { ...rates.vector, meeting } };
  };

  test.each([
    { meeting: 0, alone: [] },
    { meeting: 300, alone: [1, 2, 4, 5] },
    { meeting: 1e6, alone: [0, 1, 2, 3, 4, 5] },
  ])("threads that take $meeting ns to meet leave $alone to one of them", async ({ meeting, alone }) => {
    const options = { sparseRates: ratesOf(meeting) };
    const { steps } = bindGraph(network(), { device: device(), ...options }).schedule;
    const sharers = steps.map(({ calls }) => Math.max(...calls!.map(({ kernel }) => kernel.threads))); // all have kernels
    const { threads } = device();
    expect(sharers).toEqual(steps.map((_, i) => (alone.includes(i) ? 1 : threads)));
    const x = fromNumbers("f32", [1, 300], randomNumbers(3, 300));
    await expectCompiledRight(network(), { x }, device(), `meeting ${meeting}`, false, options);
  });
});
