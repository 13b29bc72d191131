// Layers that predictions leave open: they are tried on this machine, what was found decides, and what no machine can have is not believed.
import { afterAll, describe, expect, test } from "vitest";
import type { LaunchList } from "../../src/devices/cpu.ts";
import { openDevice } from "../../src/devices/open.ts";
import { apply, type Graph, type Value } from "../../src/ir/graph.ts";
import { fromNumbers } from "../../src/ir/tensor.ts";
import { OPS } from "../../src/ops/index.ts";
import { constantValue, input } from "../../src/ops/source.ts";
import { bindGraph, compile } from "../../src/run/compile.ts";
import { type SparseRates, USUAL_RATES } from "../../src/run/implement/sparse_cost.ts";
import { isPlausible } from "../../src/run/sparse_plausible.ts";
import { addTried, sparseRates } from "../../src/run/sparse_rates.ts";
import { measureRates } from "../../src/run/sparse_samples.ts";
import { settleDoubts } from "../../src/run/sparse_trials.ts";
import { lowOf, Rounds, ratioOf, Trial } from "../../src/run/trial.ts";
import { DEVICES, expectClose, randomNumbers, useDevice } from "./devices.ts";

const op = (name: string, ...inputs: Value[]): Value => apply(OPS.get(name)!, inputs, {}, name)[0]; // the test names operators that exist

/** Two layers of half zeros for one row: x (1, 256) to 512 and back. */
function network(): Graph {
  const x = input("x", { dtype: "f32", shape: [1, 256] });
  const weights = (seed: number, rows: number, depth: number): Value =>
    constantValue(
      fromNumbers(
        "f32",
        [depth, rows],
        randomNumbers(seed, rows * depth).map((v, i) => ((i * 7919) % 97 < 49 ? v : 0)),
      ),
    );
  const hidden = op("Relu", op("MatMul", x, weights(1, 512, 256)));
  return { inputs: [x], outputs: [{ name: "y", value: op("MatMul", hidden, weights(2, 256, 512)) }] };
}

/** Rates by which both kinds of kernel are as fast, so that every layer is open. */
function openRates(rates: SparseRates): SparseRates {
  const same = { cached: 5, streamed: 5 };
  return { ...rates, vector: { dense: same, sparse: { cached: 4.5, streamed: 4.5 }, step: 1e-6, meeting: 100 } };
}

describe.each(DEVICES)("$name", ({ open }) => {
  const device = useDevice(open);
  const rates = () => openRates(USUAL_RATES[device().target.name]);

  test("what was tried decides, and says so", async () => {
    const graph = network();
    const doubts = bindGraph(graph, { device: device(), sparseRates: rates() }).schedule.backend.sparse!.doubts!; // CPU devices have them
    expect(doubts.map(({ choice }) => choice)).toEqual([0, 1]);
    const x = fromNumbers("f32", [1, 256], randomNumbers(3, 256));
    const results = [];
    for (const [first, second] of [
      [0.5, 2],
      [2, 0.5],
    ]) {
      const tried = {
        [doubts[0].key]: { denseMs: 1, sparseMs: first },
        [doubts[1].key]: { denseMs: 1, sparseMs: second },
      };
      const program = await compile(graph, { device: device(), sparseRates: { ...rates(), tried } });
      const { choices, doubts: left } = program.schedule.backend.sparse!;
      expect(choices.map(({ isSparse, isTried, sparseMs }) => ({ isSparse, isTried, sparseMs }))).toEqual([
        { isSparse: first < 1, isTried: true, sparseMs: first },
        { isSparse: second < 1, isTried: true, sparseMs: second },
      ]);
      expect(left).toEqual([]);
      results.push((await program.run({ x })).y);
      program.free();
    }
    expectClose(results[1], results[0], "y");
  });

  test("open layers are tried within a share of the time that compiling takes, the longest first", async () => {
    const { sparse } = bindGraph(network(), { device: device(), sparseRates: rates() }).schedule.backend;
    const predicted = sparse!.choices.map(({ isSparse }) => isSparse);
    expect(await settleDoubts(device(), sparse!, 0)).toBe(false);
    expect(sparse!.choices.map((c) => c.isTried)).toEqual([undefined, undefined]);
    const isOther = await settleDoubts(device(), sparse!, 1e9);
    for (const [i, { key }] of sparse!.doubts!.entries()) {
      const found = sparse!.rates.tried?.[key];
      expect(found?.denseMs).toBeGreaterThan(0);
      expect(found?.sparseMs).toBeGreaterThan(0);
      expect(sparse!.choices[i]).toMatchObject({ ...found, isTried: true });
      expect(sparseRates(device()).tried?.[key]).toEqual(found);
    }
    const wins = sparse!.doubts!.map(({ key }) => sparse!.rates.tried![key]).map(({ denseMs, sparseMs }) => sparseMs <= 0.97 * denseMs);
    expect(isOther).toBe(wins.some((isSparse, i) => isSparse !== predicted[i]));
  });
});

const device = await openDevice({ threads: 1 });
afterAll(() => device.close());

test("what was tried before stays known", async () => {
  await addTried(device, { one: { denseMs: 1, sparseMs: 2 } });
  await addTried(device, { other: { denseMs: 3, sparseMs: 4 } });
  expect(sparseRates(device).tried).toMatchObject({ one: { denseMs: 1, sparseMs: 2 }, other: { denseMs: 3, sparseMs: 4 } });
});

test("measured rates are such as a processor can have", async () => {
  const { rates, samples, spread } = await measureRates(device);
  expect(isPlausible(rates, device.target)).toBe(true);
  expect(samples.length).toBeGreaterThan(8);
  expect(samples.filter(({ codeMs }) => codeMs !== null).length).toBeGreaterThan(device.name === "x86" ? 4 : -1);
  expect(spread).toBeGreaterThanOrEqual(1);
});

describe("rates that no machine has", () => {
  const { avx512, avx2, wasm } = USUAL_RATES;
  const target = { lanes: 16 } as Parameters<typeof isPlausible>[1]; // all that is read of it
  test.each([
    { what: "usual ones", rates: avx512, wanted: true },
    { what: "a dense product at 30 times the speed", rates: { ...avx512, dense: { ...avx512.dense, element: 0.0003 } }, wanted: false },
    { what: "nonzeros for nothing", rates: { ...avx512, beside: { ...avx512.beside, nonzero: 0, vector: 0.001 } }, wanted: false },
    {
      what: "memory faster than caches",
      rates: { ...avx512, vector: { ...avx512.vector, dense: { cached: 40, streamed: 90 } } },
      wanted: false,
    },
    { what: "code for nothing", rates: { ...avx512, code: { ...avx512.code, vector: 0.001, fetched: 0 } }, wanted: false },
    { what: "code that comes as slowly as from a disk", rates: { ...avx512, code: { ...avx512.code, fetched: 100 } }, wanted: false },
    { what: "steps that take a microsecond", rates: { ...avx512, vector: { ...avx512.vector, step: 1000 } }, wanted: false },
  ])("$what: $wanted", ({ rates, wanted }) => {
    expect(isPlausible(rates, target)).toBe(wanted);
  });
  test("usual ones of other targets", () => {
    expect(isPlausible(avx2, { ...target, lanes: 8 })).toBe(true);
    expect(isPlausible(wasm, { ...target, lanes: 4 })).toBe(true);
  });
});

test("contestants take turns, and caches are filled with something else before each", async () => {
  const runs: (readonly [number, number])[] = [];
  const list = { run: (from: number, to: number) => runs.push([from, to]) } as unknown as LaunchList; // nothing else of it is used
  const rounds = new Rounds(list, 2, [1, 3]);
  await rounds.series(2);
  const turn = [[0, 2], [2, 3], [0, 2], [3, 4], [0, 2], [4, 7]]; // biome-ignore format: pairs
  expect(runs).toEqual([...turn, ...turn, ...turn]); // the first is not counted
  expect(rounds.lows.map((lows) => lows.length)).toEqual([1, 1]);
});

test("a call without work that was disturbed is not taken from what contestants took", async () => {
  const milliseconds = [
    [0, 2],
    [3, 2],
  ].flat(); // of the idle call and the contestant, in two series
  const wait = (end: number): void => {
    while (performance.now() < end);
  };
  const list = { run: () => wait(performance.now() + milliseconds.shift()!) } as unknown as LaunchList; // nothing else of it is used
  const rounds = new Rounds(list, 0, [1]);
  await rounds.series(1, false);
  await rounds.series(1, false);
  for (const ns of rounds.lows[0]) expect(ns).toBeGreaterThan(1e6);
});

test("arrays of a trial lie apart, each at a line's beginning, and hold what was put there", () => {
  const trial = new Trial(device);
  const numbers = [3, 17, 1 << 21, 5, 1 << 22].map((length, i) => new Float32Array(length).fill(i + 1));
  const memories = numbers.map((data) => trial.put(data));
  for (const [i, memory] of memories.entries()) {
    const bytes = memory.view();
    expect(memory.address % 64).toBe(0);
    expect(memory.bytes).toBe(numbers[i].byteLength);
    const got = new Float32Array(bytes.buffer, bytes.byteOffset, numbers[i].length);
    expect(got.every((v) => v === i + 1)).toBe(true);
  }
  trial.free();
});

test("a low time is one that others come close to", () => {
  expect(lowOf([9, 1, 5, 5.1, 5.2])).toBe(5);
  expect(lowOf([7])).toBe(7);
});

test("kernels are compared in the series that they share", () => {
  // The second is faster in one series, as its lows would say; usually it is slower.
  expect(ratioOf([[10, 20, 30, 40, 50], [12, 24, 15, 48, 60]])).toBe(1.2); // biome-ignore format: series below each other
  expect(ratioOf([[10, 10], [9, 11]])).toBe(1.1); // biome-ignore format: the same
});
