// What is WebAssembly's own: modules that validate, listings, wide offsets, arithmetic without relaxed instructions.
import { describe, expect, test } from "vitest";
import { lowerAddresses } from "../../src/codegen/addresses.ts";
import { emitWasm, LOWEST_ADDRESS, listWasm, wasmTarget } from "../../src/codegen/wasm/index.ts";
import { FunctionWriter } from "../../src/codegen/wasm/writer.ts";
import { type Kernel, KernelBuilder, plus, times } from "../../src/ir/kernel.ts";
import { runWasm } from "./simd_run.ts";

const target = wasmTarget(32768, 1 << 20);
const bytesOf = (a: ArrayBufferView): Uint8Array => new Uint8Array(a.buffer, a.byteOffset, a.byteLength);

/** out ← a·b + c, lane by lane; then where a < b, a, else c. */
function fusedAndSelect(): Kernel {
  const k = new KernelBuilder("fused", target);
  for (const name of ["a", "b", "c"]) k.buffer(name, 16, "read");
  const [out, chosen] = [k.buffer("out", 16, "write"), k.buffer("chosen", 16, "write")];
  const [a, b, c] = [0, 1, 2].map((i) => k.load(i, 0));
  k.store(k.op("fma", a, b, c), out, 0);
  k.store(k.op("select", a, c, k.op("lt", a, b)), chosen, 0);
  return k.build();
}

describe("WebAssembly", () => {
  test.each([true, false])("multiply-add rounds once with relaxed instructions, twice without: %s", (relaxed) => {
    const x = 1 + 2 ** -12;
    const a = Float32Array.of(x, 3, -1, NaN);
    const b = Float32Array.of(x, 2, 5, 1);
    const c = Float32Array.of(-1, 1, 0.5, 0);
    const [out, chosen] = [new Float32Array(4), new Float32Array(4)];
    runWasm(lowerAddresses(fusedAndSelect()), [a, b, c, out, chosen].map(bytesOf), 1, relaxed);
    expect([...out]).toEqual([relaxed ? Math.fround(x * x - 1) : Math.fround(Math.fround(x * x) - 1), 7, -4.5, NaN]);
    expect([...chosen]).toEqual([-1, 1, -1, 0]);
  });

  test("several kernels in a module, for shared and for private memory", () => {
    const kernels = [fusedAndSelect(), new KernelBuilder("empty", target).build(), fusedAndSelect()];
    for (const sharedMemory of [true, false]) {
      const bytes = emitWasm(kernels, { relaxed: true, sharedMemory });
      expect(WebAssembly.validate(bytes)).toBe(true);
      const module = new WebAssembly.Module(bytes);
      expect(WebAssembly.Module.exports(module).map((e) => e.name)).toEqual(["k0", "k1", "k2"]);
      expect(WebAssembly.Module.imports(module)).toEqual([{ module: "env", name: "memory", kind: "memory" }]);
      const memory = sharedMemory
        ? new WebAssembly.Memory({ initial: 17, maximum: 65536, shared: true })
        : new WebAssembly.Memory({ initial: 17 });
      expect(() => new WebAssembly.Instance(module, { env: { memory } })).not.toThrow();
    }
    expect(WebAssembly.validate(emitWasm([], { relaxed: false, sharedMemory: false }))).toBe(true);
  });

  test("displacements below zero and beyond the first megabyte", () => {
    const far = 3 << 20;
    const k = new KernelBuilder("far", target);
    const from = k.buffer("from", far + 1024, "read");
    const out = k.buffer("out", 1024, "write");
    k.loop(1, 8, 1, (i) => {
      const near = k.load(from, plus(times(i, 16), -16));
      const back = k.load(from, plus(times(i, -16), far + 128));
      k.store(k.op("add", near, back), out, plus(times(i, 16), -16));
      k.store(k.strided(from, plus(times(i, 16), far), -16, 2), out, plus(times(i, 16), 256));
    });
    const memory = new WebAssembly.Memory({ initial: 17 + far / 65536 + 1 });
    const module = new WebAssembly.Module(emitWasm([k.build()], { relaxed: false, sharedMemory: false }));
    const { k0 } = new WebAssembly.Instance(module, { env: { memory } }).exports;
    const floats = new Float32Array(memory.buffer);
    const [source, result] = [LOWEST_ADDRESS, LOWEST_ADDRESS + far + 1024];
    for (let i = 0; i < (far + 1024) / 4; i++) floats[source / 4 + i] = i;
    new Uint32Array(memory.buffer).set([source, result], 16);
    (k0 as (args: number, tid: number) => void)(64, 0);
    for (let i = 1; i < 8; i++) {
      expect(floats[(result + 16 * i - 16) / 4]).toBe(4 * (i - 1) + (far + 128 - 16 * i) / 4);
      const at = (result + 16 * i + 256) / 4;
      expect([...floats.subarray(at, at + 3)]).toEqual([(far + 16 * i) / 4, (far + 16 * i - 16) / 4, 0]);
    }
  });

  test("lists instructions with blocks indented", () => {
    const k = new KernelBuilder("scale", target, 2);
    const a = k.buffer("a", 4096, "readwrite");
    k.parallel(256, (i) => k.store(k.op("mul", k.load(a, times(i, 16)), k.f32(2)), a, times(i, 16)));
    const text = listWasm(k.build(), true);
    expect(text.split("\n")[0]).toBe("  ;; scale: 0 args (a), 1 thread");
    expect(text).toMatch(/\n {4}loop\n(.*\n)* {6}v128\.load\n(.*\n)* {6}f32x4\.mul\n(.*\n)* {6}br_if 0\n {4}end\n {2}end\n/);
  });

  test("integers in LEB128, of both signs and at the edges", () => {
    for (const value of [0, 1, -1, 63, 64, -64, -65, 127, 128, 8191, 8192, -8192, -8193, 0x7fffffff, -0x80000000]) {
      const f = new FunctionWriter([]);
      f.op("i32.const", value);
      let x = 0;
      let shift = 0;
      for (const byte of f.finish().slice(2, -1)) {
        x |= (byte & 0x7f) << shift;
        shift += 7;
        if (byte < 0x80 && shift < 32 && byte & 0x40) x |= -1 << shift;
      }
      expect(x).toBe(value);
    }
  });
});
