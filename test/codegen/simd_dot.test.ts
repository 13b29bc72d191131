// The dot product of pairs of bfloat16, as compiled where the processor has it, against the same in JavaScript: roundings, denormals, operand forms.
import { describe, expect, test } from "vitest";
import { emitKernel as emitWasmKernel } from "../../src/codegen/wasm/emit.ts";
import { wasmTarget } from "../../src/codegen/wasm/index.ts";
import { emitKernel } from "../../src/codegen/x86/emit.ts";
import { avx2Target, avx512Target } from "../../src/codegen/x86/target.ts";
import { machineFacts } from "../../src/devices/machine.ts";
import { type Kernel, KernelBuilder, type SimdTarget } from "../../src/ir/kernel.ts";
import { dotbf16, interpret } from "./simd_reference.ts";
import { lowerPlainly, runCode } from "./x86_run.ts";

const BF16 = avx512Target(32768, 1 << 20, { dotsBf16: true });
const LANES = 16;

/** Buffers a, b, c: words of pairs, words of pairs, float32; o: six vectors. */
function dotKernel(target: SimdTarget): Kernel {
  const k = new KernelBuilder("dot", target);
  const bytes = 4 * target.lanes;
  const [a, b, c] = ["a", "b", "c"].map((name) => k.buffer(name, bytes, "read"));
  const out = k.buffer("o", 6 * bytes, "write");
  const put = (at: number, v: ReturnType<typeof k.load>): void => k.store(v, out, at * bytes);
  // Into its addend, with operands in registers, straight from memory, and one word for all lanes.
  const [x, y] = [k.load(a, 0), k.load(b, 0)];
  const sum = k.load(c, 0);
  k.op("dotbf16", x, y, sum, sum);
  put(0, sum);
  const fromMemory = k.load(c, 0);
  k.op("dotbf16", x, k.load(b, 0), fromMemory, fromMemory);
  put(1, fromMemory);
  const splat = k.load(c, 0);
  k.op("dotbf16", k.splat(a, 0), y, splat, splat);
  put(2, splat);
  // Into another vector, into a factor, and with an addend that lives on.
  const addend = k.load(c, 0);
  put(3, k.op("dotbf16", x, y, addend));
  const factor = k.load(a, 0);
  k.op("dotbf16", factor, y, addend, factor);
  put(4, factor);
  put(5, addend);
  return k.build();
}

/** Sixteen words from pairs [lower, upper]; bfloat16 is the upper half of float32. */
function words(pairs: readonly (readonly [number, number])[]): Int32Array {
  const bits = new Int32Array(new Float32Array(pairs.flat()).buffer);
  return Int32Array.from({ length: LANES }, (_, i) => {
    const at = 2 * (i % pairs.length);
    return (bits[at] >>> 16) | (bits[at + 1] & -0x10000);
  });
}

const run = (a: Int32Array, b: Int32Array, c: Int32Array): { got: Int32Array; want: Int32Array } => {
  const results = [0, 1].map(() => new Int32Array(6 * LANES));
  const bytes = (x: Int32Array): Uint8Array => new Uint8Array(x.buffer);
  const kernel = dotKernel(BF16);
  runCode(emitKernel(lowerPlainly(kernel), BF16).finish(), [a, b, c, results[0]].map(bytes));
  interpret(kernel, [a, b, c, results[1]].map(bytes));
  return { got: results[0], want: results[1] };
};
const float = (...numbers: number[]): Int32Array =>
  new Int32Array(new Float32Array(LANES).map((_, i) => numbers[i % numbers.length]).buffer);

describe.runIf(machineFacts().dotsBf16)("on this processor", () => {
  test("every form of operands gives the bits of the reference: two sums, each rounded to nearest even", () => {
    let seed = 7;
    const next = (): number => {
      seed = (Math.imul(seed, 1664525) + 1013904223) | 0;
      return ((seed >> 8) / 2 ** 23) * 2 ** (seed & 7);
    };
    for (let round = 0; round < 50; round++) {
      const pairs = (): Int32Array => words(Array.from({ length: LANES }, () => [next(), next()] as const));
      const { got, want } = run(pairs(), pairs(), float(...Array.from({ length: LANES }, next)));
      expect(got).toEqual(want);
    }
  });

  test("denormal factors, addends and results are zeros", () => {
    const tiny = 2 ** -127;
    const { got, want } = run(
      words([[tiny, 1], [1, tiny], [2 ** -70, 0], [1, 1]]), // biome-ignore format: pairs
      words([[2 ** 100, 1], [1, 2 ** 100], [2 ** -60, 0], [0, 0]]), // biome-ignore format: pairs
      float(0.5, 0.5, 0, tiny),
    );
    expect([...new Float32Array(got.buffer, 0, 4)]).toEqual([1.5, 1.5, 0, 0]);
    expect(got.subarray(0, LANES)).toEqual(want.subarray(0, LANES));
  });
});

test("a pair's upper numbers are added first", () => {
  const [a] = words([[1, 2 ** 24]]);
  const [b] = words([[1, 1]]);
  const [c] = float(-(2 ** 24));
  const word = new Int32Array([dotbf16(a, b, c)]);
  expect(new Float32Array(word.buffer)[0]).toBe(1);
});

test("targets without it refuse it", () => {
  const avx2 = avx2Target(32768, 1 << 20);
  expect(() => emitKernel(lowerPlainly(dotKernel(avx2)), avx2)).toThrow(/dotbf16/);
  expect(() => emitWasmKernel(lowerPlainly(dotKernel(wasmTarget(32768, 1 << 20))), false)).toThrow(/dotbf16/);
});
