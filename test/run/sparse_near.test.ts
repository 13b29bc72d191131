// Networks that stay in the second-level cache from run to run get kernels by rates of their own.
import { describe, expect, test } from "vitest";
import { apply, type Graph, type Value } from "../../src/ir/graph.ts";
import { fromNumbers } from "../../src/ir/tensor.ts";
import { OPS } from "../../src/ops/index.ts";
import { constantValue, input } from "../../src/ops/source.ts";
import { bindGraph } from "../../src/run/compile.ts";
import { cachesOf, ratesWhere, type SparseRates, USUAL_RATES } from "../../src/run/implement/sparse_cost.ts";
import { isOpen } from "../../src/run/sparse_doubts.ts";
import { ratesOf } from "../../src/run/sparse_rates.ts";
import { settleDoubts } from "../../src/run/sparse_trials.ts";
import { DEVICES, randomNumbers, useDevice } from "./devices.ts";

const SIDE = 64;

/** A layer of half zeros for so many rows. */
function network(rows: number): Graph {
  const x = input("x", { dtype: "f32", shape: [rows, SIDE] });
  const weights = randomNumbers(1, SIDE * SIDE).map((v, i) => ((i * 7919) % 97 < 49 ? v : 0));
  const operands: Value[] = [x, constantValue(fromNumbers("f32", [SIDE, SIDE], weights))];
  return { inputs: [x], outputs: [{ name: "y", value: apply(OPS.get("MatMul")!, operands, {}, "product")[0] }] }; // the operator exists
}

/** Where all comes from afar sparse kernels take no time, near they take an hour. */
function opposite(rates: SparseRates): SparseRates {
  const times = (factor: number) => {
    const { nonzero, vector, ...rest } = rates.sparse;
    return { ...rates, dense: { ...rates.dense, once: 20000 }, sparse: { ...rest, nonzero: factor * nonzero, vector: factor * vector } };
  };
  return { ...times(1e-3), near: times(1e9) };
}

test.each([
  { constants: 2000, largest: 0, caches: 0 },
  { constants: 1000, largest: 500, caches: 0 },
  { constants: 1000, largest: 501, caches: 1 },
  { constants: 5000, largest: 501, caches: 2.5 },
])("a network fills caches with what it holds and two of its largest tensors: $constants, $largest", ({ constants, largest, caches }) => {
  expect(cachesOf(constants, largest, { l2: 3000 })).toBe(caches);
});

test("between near and far layers are tried that are predicted to gain more", () => {
  const layer = { denseMs: 2, sparseMs: 1 };
  expect([{}, { caches: 0 }, { caches: 0.5 }].map((rates) => isOpen(layer, rates))).toEqual([false, false, true]);
  expect(isOpen({ ...layer, denseMs: 4.1 }, { caches: 2 })).toBe(false);
});

test("rates are those of a network's size, and say so where it counts", () => {
  const far = USUAL_RATES.avx512;
  const near = { ...far, dense: { ...far.dense, once: 1 } };
  expect(ratesWhere(0, { ...far, near })).toEqual({ ...near, caches: 0 });
  expect(ratesWhere(0, far)).toEqual(far);
  expect(ratesWhere(5, { ...far, near })).toEqual({ ...far, caches: 5 });
  expect(ratesWhere(6, { ...far, near })).toEqual(far);
});

describe.each(DEVICES)("$name", ({ open }) => {
  const device = useDevice(open);
  const rates = () => opposite(USUAL_RATES[device().target.name]);
  /** Rows whose activations fill the cache. */
  const many = () => Math.ceil(device().target.l2 / SIDE / 4);

  test("its size decides by which rates kernels are chosen", () => {
    const chosen = (rows: number) => bindGraph(network(rows), { device: device(), sparseRates: rates() }).schedule.backend.sparse!; // CPU devices have them
    expect(chosen(64).choices.map(({ isSparse }) => isSparse)).toEqual([false]);
    expect(chosen(many()).choices.map(({ isSparse }) => isSparse)).toEqual([true]);
    expect(chosen(64).rates).toMatchObject({ caches: 0, sparse: rates().near!.sparse });
    expect(chosen(many()).rates).toMatchObject({ caches: 2.5, sparse: rates().sparse });
  });

  test("a program that is bound again is chosen for by the same rates", () => {
    const picked = ratesOf(network(64), device(), rates());
    expect(ratesOf(network(64), device(), picked)).toBe(picked);
    expect(picked.near).toBeUndefined();
  });

  test("what was tried near is kept apart", async () => {
    // All layers take as long.
    const even = { ...USUAL_RATES[device().target.name], tried: {} };
    const dense = { element: 1e-9, result: 0, once: 50000, wait: 0 };
    const sparse = { nonzero: 1e-9, vector: 1e-9, visit: 0, channel: 0, once: 50000, wait: 0 };
    const given = { ...even, dense, sparse, near: { ...even, dense, sparse } };
    const keysOf = async (rows: number): Promise<string[]> => {
      const { sparse: policy } = bindGraph(network(rows), { device: device(), sparseRates: given }).schedule.backend;
      await settleDoubts(device(), policy!, 1e9);
      return Object.keys(policy!.rates.tried!);
    };
    const [near] = await keysOf(64);
    expect(near).toMatch(/64x64x64 51% .* in 0 caches$/);
    const [far] = await keysOf(many());
    expect(far).toMatch(/ 51% .* in 2\.5 caches$/);
  });
});
