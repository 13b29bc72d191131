// What libraries' calls were found to be fastest with, kept for later processes: on a driver and libraries that only pretend.
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeEach, expect, test, vi } from "vitest";
import { CudaBlas } from "../../src/devices/cuda/blas.ts";
import { CudaDnn } from "../../src/devices/cuda/dnn.ts";
import type { Call, CudaApi } from "../../src/devices/cuda/driver.ts";
import { type LibraryConv, type LibraryGemm, NO_TAIL } from "../../src/ir/library_kernel.ts";

const root = mkdtempSync(join(tmpdir(), "heddle-plans-"));
afterAll(() => rmSync(root, { recursive: true, force: true }));
beforeEach(() => vi.stubEnv("HEDDLE_CACHE", mkdtempSync(join(root, "cache-"))));
const keptFiles = (): string[] => {
  const folder = join(process.env.HEDDLE_CACHE!, "plan"); // stubbed above
  return readdirSync(folder).map((name) => join(folder, name));
};

/** Of proposals 1, 2 and 3 the second is the fastest. */
const MS = [0, 5, 1, 3];

/** A library of these functions, others succeeding; `last` says which proposal was called last. */
function fakeCuda(functions: Readonly<Record<string, Call>>, last: () => number): CudaApi {
  const succeed = () => 0;
  return {
    attempt: succeed,
    driver: (name, ...args) => {
      if (name === "cuEventElapsedTime") (args[0] as Float32Array)[0] = MS[last()]; // as it is called
    },
    handle: () => 1n,
    errorText: String,
    addressOf: () => 0n,
    wordAt: () => 0,
    compiler: succeed,
    library: <Name extends string>(_: readonly string[], table: Readonly<Record<Name, readonly string[]>>) =>
      new Map((Object.keys(table) as Name[]).map((name) => [name, functions[name] ?? succeed])),
  };
}

const common = { name: "kernel", params: [], type: "bf16", outType: "bf16", roundsF32: false, tail: NO_TAIL } as const;
const gemm: LibraryGemm = { ...common, library: "gemm", batch: 1, m: 64, n: 32, k: 16, isLeftTransposed: false, isRightTransposed: false, leftStride: 0, rightStride: 0 }; // biome-ignore format: one idea
const window = { input: [8, 8], output: [8, 8], kernel: [3, 3], strides: [1, 1], dilations: [1, 1], padsBegin: [1, 1], padsEnd: [1, 1] };
const conv: LibraryConv = { ...common, ...window, library: "conv", images: 1, inChannels: 8, outChannels: 8, groups: 1 };

/** A process that multiplies: the algorithm it uses, and how often it asked for proposals. */
function multiply({ gpu = "H200", version = 13, knows = 0 } = {}): { algorithm: number; asked: number } {
  let [algorithm, asked] = [0, 0];
  const functions: Record<string, Call> = {
    cublasLtGetVersion: () => version,
    cublasLtMatmulAlgoGetHeuristic: (...args) => {
      const [found, count] = args.slice(-2) as [Uint8Array, Int32Array]; // as it is called
      asked++;
      for (const i of [0, 1, 2]) found.fill(i + 1, 96 * i, 96 * i + 64);
      count[0] = 3;
      return 0;
    },
    cublasLtMatmulAlgoCheck: () => knows,
    cublasLtMatmul: (...args) => {
      [algorithm] = args[12] as Uint8Array; // as it is called
      return 0;
    },
  };
  const blas = CudaBlas.open(fakeCuda(functions, () => algorithm), 1n, gpu); // biome-ignore format: one idea
  blas?.prepare(gemm, [1n, 2n, 3n]).call();
  return { algorithm, asked };
}

test("a product's fastest algorithm is found out once for each GPU and version of the library", () => {
  expect(multiply()).toEqual({ algorithm: 2, asked: 1 });
  expect(multiply()).toEqual({ algorithm: 2, asked: 0 });
  expect(multiply({ gpu: "H100" })).toEqual({ algorithm: 2, asked: 1 });
  expect(multiply({ version: 12 })).toEqual({ algorithm: 2, asked: 1 });
  expect(keptFiles()).toHaveLength(3);
});

test("an algorithm that the library refuses, or whose file is damaged, is found out again", () => {
  multiply();
  expect(multiply({ knows: 7 })).toEqual({ algorithm: 2, asked: 1 });
  const [file] = keptFiles();
  const bytes = readFileSync(file);
  bytes[bytes.length - 1] ^= 1;
  writeFileSync(file, bytes);
  expect(multiply()).toEqual({ algorithm: 2, asked: 1 });
  writeFileSync(file, "no algorithm");
  expect(multiply()).toEqual({ algorithm: 2, asked: 1 });
  expect(multiply()).toEqual({ algorithm: 2, asked: 0 });
});

test("float8 operands have their scales: the library's first operand is our second", () => {
  const described = new Map<unknown, bigint>();
  const functions: Record<string, Call> = {
    cublasLtMatmulDescSetAttribute: (_, attribute, value) => {
      if (value instanceof BigUint64Array) described.set(attribute, value[0]);
      return 0;
    },
    cublasLtMatmulAlgoGetHeuristic: (...args) => {
      (args[9] as Int32Array)[0] = 1; // as it is called
      return 0;
    },
  };
  const product: LibraryGemm = { ...gemm, type: "f8e4m3fn", outType: "bf16", isRightTransposed: true };
  CudaBlas.open(fakeCuda(functions, () => 1), 1n, "H200")?.prepare(product, [1n, 2n, 30n, 40n, 5n]); // biome-ignore format: short
  const [SCALE_A, SCALE_B] = [17, 18];
  expect([described.get(SCALE_A), described.get(SCALE_B)]).toEqual([40n, 30n]);
});

/** Numbers of cuDNN's: attributes, and kinds of descriptors. */
const [RESULTS, CONFIGURATION, WORKSPACE, TEXT, PLAN] = [202, 401, 402, 405, 5];

/** A process that convolves: which of three plans it runs, and how often it asked for proposals. */
function convolve({ restores = true, runs = true } = {}): { plan: number; asked: number } {
  const kinds: number[] = [];
  const planOf = new Map<bigint, number>();
  let [plan, asked, first] = [0, 0, 0n];
  const functions: Record<string, Call> = {
    cudnnBackendCreateDescriptor: (kind, out) => {
      (out as BigUint64Array)[0] = BigInt(kinds.push(kind as number)); // as it is called
      return 0;
    },
    cudnnBackendSetAttribute: (...args) => {
      const [of, name, , , value] = args as [bigint, number, number, number, Uint8Array & BigUint64Array]; // as it is called
      if (name === CONFIGURATION) planOf.set(of, Number(value[0] - first) + 1);
      if (name === TEXT) planOf.set(of, value[0]);
      return name === TEXT && !restores ? 3 : 0;
    },
    cudnnBackendGetAttribute: (...args) => {
      const [of, name, , room, count, out] = args as [bigint, number, number, number, BigInt64Array, BigUint64Array & Uint8Array]; // as it is called
      count[0] = name === RESULTS ? 3n : name === WORKSPACE || name === TEXT ? 1n : 0n;
      if (name === RESULTS) {
        asked++;
        first = out[0];
      }
      if (name === WORKSPACE) out[0] = 0n as never; // a BigInt64Array
      if (name === TEXT && room > 0) out[0] = planOf.get(of)! as never; // a plan's text is its number here
      return 0;
    },
    cudnnBackendExecute: (_, of) => {
      expect(kinds[Number(of) - 1]).toBe(PLAN);
      plan = planOf.get(of as bigint)!; // set before it was finished
      return runs || asked > 0 ? 0 : 4;
    },
  };
  const dnn = CudaDnn.open(fakeCuda(functions, () => plan), 1n, "H200", () => 1n); // biome-ignore format: one idea
  dnn?.prepare(conv, [1n, 2n, 3n]).call();
  return { plan, asked };
}

test("a convolution's fastest plan is compiled once, and restored as the library wrote it down", () => {
  expect(convolve()).toEqual({ plan: 2, asked: 1 });
  expect(keptFiles()).toHaveLength(1);
  expect(convolve()).toEqual({ plan: 2, asked: 0 });
});

test("a plan that the library does not restore, or that does not run, is found out again", () => {
  convolve();
  expect(convolve({ restores: false })).toEqual({ plan: 2, asked: 1 });
  expect(convolve({ runs: false })).toEqual({ plan: 2, asked: 1 });
  expect(convolve()).toEqual({ plan: 2, asked: 0 });
});
