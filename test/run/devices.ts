// The devices of this machine that every test of compiled programs runs on, and how results are compared.
import { afterAll, beforeAll, expect } from "vitest";
import type { CpuDevice } from "../../src/devices/cpu.ts";
import { machineFacts } from "../../src/devices/machine.ts";
import { openDevice } from "../../src/devices/open.ts";
import type { Graph } from "../../src/ir/graph.ts";
import { type TensorData, toNumbers, zeros } from "../../src/ir/tensor.ts";
import { evaluateGraph } from "../../src/ops/index.ts";
import { inputName } from "../../src/ops/source.ts";
import { type CompileOptions, compile } from "../../src/run/compile.ts";

export interface TestDevice {
  readonly name: string;
  readonly guardPages: boolean;
  open(): Promise<CpuDevice>;
}

const { isa, platform } = machineFacts();
const isas = platform === "linux" ? (["avx512", "avx2"] as const).filter((i) => i === "avx2" ? isa !== null : isa === "avx512") : []; // biome-ignore format: one condition

/** x86 devices put every tensor against a guard page: an access past its end kills the test. */
export const DEVICES: readonly TestDevice[] = [
  ...isas.flatMap((i) =>
    [1, 2].map((threads) => ({
      name: `${i}, threads ${threads}`,
      guardPages: true,
      open: () => openDevice({ device: "x86", isa: i, threads, guardPages: true }),
    })),
  ),
  ...[1, 2].map((threads) => ({
    name: `wasm, threads ${threads}`,
    guardPages: false,
    open: () => openDevice({ device: "wasm", threads }),
  })),
];

/** The device of all tests of a suite: opened before the first and closed after the last. */
export function useDevice<Opened extends { close(): void }>(open: () => Promise<Opened>): () => Opened {
  let device: Opened | undefined;
  beforeAll(async () => {
    device = await open();
  });
  afterAll(() => device?.close());
  return () => device!; // tests run between the two
}

/** Numbers in [-1, 1) from a seed: a linear congruential generator's high bits. */
export function randomNumbers(seed: number, count: number): Float64Array {
  let state = (seed * 2654435761 + 12345) >>> 0;
  const numbers = new Float64Array(count);
  for (let i = 0; i < count; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    numbers[i] = (state >>> 8) / 2 ** 23 - 1;
  }
  return numbers;
}

/** Fails where |got − want| exceeds tolerance · (1 + |want|): sums of float32 in another order, Winograd's larger intermediate values, vector functions good to a few ULP. */
export function expectClose(got: TensorData, want: TensorData, what: string, tolerance = 3e-4): void {
  expect([got.dtype, ...got.shape], what).toEqual([want.dtype, ...want.shape]);
  const [a, b] = [toNumbers(got), toNumbers(want)];
  for (let i = 0; i < b.length; i++) {
    if (Object.is(a[i], b[i]) || a[i] === b[i] || (Number.isNaN(a[i]) && Number.isNaN(b[i]))) continue;
    const error = Math.abs(a[i] - b[i]) / (1 + Math.abs(b[i]));
    if (!(error <= tolerance)) expect.fail(`${what}: element ${i} of ${b.length} is ${a[i]}, wanted ${b[i]}`);
  }
}

/** Compiles a graph, runs it twice, and holds both results against the float64 reference. */
export async function expectCompiledRight(
  graph: Graph,
  inputs: Readonly<Record<string, TensorData>>,
  device: CpuDevice,
  what: string,
  isSeparate: boolean,
  options: Pick<CompileOptions, "sparse" | "sparseRates"> = {},
): Promise<void> {
  const want = evaluateGraph(graph, inputs);
  const program = await compile(graph, { device, separateTensors: isSeparate, ...options });
  try {
    // Zeros first: nothing of an earlier run may be left in a later one.
    await program.run(Object.fromEntries(graph.inputs.map((v) => [inputName(v), zeros(v.type.dtype, v.type.shape)])));
    const got = await program.run(inputs);
    for (const [name, tensor] of Object.entries(want)) expectClose(got[name], tensor, `${what}: ${name}`);
  } finally {
    program.free();
  }
}
