// Loads that put consecutive elements into the lanes of a mask, compiled against the same in JavaScript, and refused where there are none.
import { describe, expect, test } from "vitest";
import { lowerAddresses } from "../../src/codegen/addresses.ts";
import { emitKernel as emitWasmKernel } from "../../src/codegen/wasm/emit.ts";
import { wasmTarget } from "../../src/codegen/wasm/index.ts";
import { emitKernel } from "../../src/codegen/x86/emit.ts";
import { avx2Target } from "../../src/codegen/x86/target.ts";
import { type Kernel, KernelBuilder, plus, type SimdTarget, times } from "../../src/ir/kernel.ts";
import { interpret } from "./simd_reference.ts";
import { TARGETS } from "./simd_run.ts";
import { lowerPlainly, runCode } from "./x86_run.ts";

const MASKS = [0, 0xffff, 1, 0x8000, 0x5555, 0xaaaa, 0x7ffe, 0x0310, 0xfff0];

/** Buffers: elements, masks, where each starts, results: the vector itself, and twice it, from a loop. */
function expandKernel(target: SimdTarget): Kernel {
  const k = new KernelBuilder("expand", target);
  const { lanes } = target;
  const count = MASKS.length;
  const from = k.buffer("from", 4 * (3 * count + lanes), "read");
  const bits = k.buffer("bits", 2 * count, "read");
  const starts = k.buffer("starts", 4 * count, "read");
  const out = k.buffer("out", 8 * lanes * count, "write");
  k.loop(0, count, 1, (i) => {
    const start = k.loadInt(starts, times(i, 4), "i32", 0, 3 * count);
    const v = k.expand(from, times(start, 4), bits, times(i, 2));
    k.store(v, out, times(i, 8 * lanes));
    k.store(k.op("add", v, v), out, plus(times(i, 8 * lanes), 4 * lanes));
  });
  return k.build();
}

const buffers = (lanes: number): Uint8Array[] => {
  const count = MASKS.length;
  return [
    new Uint8Array(Float32Array.from({ length: 3 * count + lanes }, (_, i) => i + 1).buffer),
    new Uint8Array(Uint16Array.from(MASKS).buffer),
    new Uint8Array(Int32Array.from(MASKS, (_, i) => (i === count - 1 ? 3 * count : 3 * i)).buffer),
    new Uint8Array(8 * lanes * count),
  ];
};

describe.each(TARGETS.filter((t) => t.expandsLoads))("$name", (target) => {
  test.each([lowerPlainly, lowerAddresses])("every mask gives the bits of the reference (%o)", (lower) => {
    const kernel = expandKernel(target);
    const [got, want] = [buffers(target.lanes), buffers(target.lanes)];
    runCode(emitKernel(lower(kernel), target).finish(), got);
    interpret(kernel, want);
    expect(got[3]).toEqual(want[3]);
    const floats = new Float32Array(got[3].buffer);
    expect([...floats.subarray(0, target.lanes)]).toEqual(new Array(target.lanes).fill(0));
    expect([...floats.subarray(2 * target.lanes, 3 * target.lanes)]).toEqual(Array.from({ length: target.lanes }, (_, i) => i + 4));
    expect(floats[2 * target.lanes * 3 + 15]).toBe(3 * 3 + 1);
  });
});

test("all that could be read lies in the buffer", () => {
  const k = new KernelBuilder("expand", TARGETS[0]);
  const [from, bits] = [k.buffer("from", 64, "read"), k.buffer("bits", 2, "read")];
  expect(() => k.expand(from, 4, bits, 0)).toThrow(/reaches bytes 4..68 of 64/);
  expect(() => k.expand(from, 0, bits, 1)).toThrow(/reaches bytes 1..3 of 2/);
});

test("targets without it refuse it", () => {
  const avx2 = avx2Target(32768, 1 << 20);
  const wasm = wasmTarget(32768, 1 << 20);
  expect(() => emitKernel(lowerPlainly(expandKernel(avx2)), avx2)).toThrow(/expanding load/);
  expect(() => emitWasmKernel(lowerPlainly(expandKernel(wasm)), false)).toThrow(/expand has no code/);
});
