// What hot loops must look like: no spills where everything fits, loads folded into arithmetic, moves elided, cheap loop ends.
import { describe, expect, test } from "vitest";
import { lowerAddresses } from "../../src/codegen/addresses.ts";
import { emitKernel } from "../../src/codegen/x86/emit.ts";
import {
  affine,
  type Kernel,
  KernelBuilder,
  type PointerAddress,
  plus,
  type SimdTarget,
  type Stmt,
  times,
  type Vec,
} from "../../src/ir/kernel.ts";
import { lowerPlainly, lowerWithBumps, runCode, TARGETS } from "./x86_run.ts";

const listing = (kernel: Kernel<PointerAddress>, target: SimdTarget): string[] => {
  const asm = emitKernel(kernel, target, true);
  asm.finish();
  return asm.listing.map((line) => line.text);
};
const [avx512, avx2] = TARGETS;

/** rows × 2 vectors of accumulators over k steps: a (k,rows) packed · b (k,2 vectors) packed. */
function gemm(target: SimdTarget, rows: number, steps: number): Kernel {
  const { lanes } = target;
  const k = new KernelBuilder("gemm", target);
  const a = k.buffer("a", steps * rows * 4, "read");
  const b = k.buffer("b", steps * 2 * lanes * 4, "read");
  const c = k.buffer("c", rows * 2 * lanes * 4, "write");
  const acc = Array.from({ length: rows * 2 }, () => k.f32(0));
  k.loop(0, steps, 1, (i) => {
    const right = [0, 1].map((n) => k.load(b, plus(times(i, 2 * lanes * 4), n * lanes * 4)));
    for (let m = 0; m < rows; m++) {
      const left = k.splat(a, plus(times(i, rows * 4), m * 4));
      right.forEach((x, n) => {
        k.accumulate(acc[m * 2 + n], left, x);
      });
    }
  });
  acc.forEach((x, i) => {
    k.store(x, c, i * lanes * 4);
  });
  return k.build();
}

test.each([
  [avx512, 14],
  [avx2, 6],
])("register tile of $name × %i rows stays in registers", (target, rows) => {
  // All pointers but two are the same here, as after real address lowering.
  const text = listing(sharePointers(lowerWithBumps(gemm(target, rows, 100))), target);
  expect(text.filter((line) => /rsp|vmova|push/.test(line))).toEqual([]);
  const head = text.findIndex((line) => /^L\d+:/.test(line));
  const end = text.findIndex((line, i) => i > head && line.startsWith("j"));
  const body = text.slice(head + 1, end + 1);
  expect(body.filter((line) => line.startsWith("vfmadd231ps")).length).toBe(rows * 2);
  expect(body.length).toBe(2 + rows * 3 + 2 + 2);
});

/** Gives pointers that move alike one register: what address lowering does. */
function sharePointers(kernel: Kernel<PointerAddress>): Kernel<PointerAddress> {
  const first = new Map<string, { id: number }>();
  const same = new Map<number, { id: number }>();
  const rename = (s: Stmt<PointerAddress>): Stmt<PointerAddress>[] => {
    if (s.k === "for") return [{ ...s, body: s.body.flatMap(rename) }];
    if (s.k === "pointer") {
      if ("pointer" in s.from) return same.get(s.pointer.id)?.id === s.pointer.id ? [s] : [];
      if (!s.add.terms.length) {
        const key = `${s.from.buffer} ${s.add.base}`;
        const known = first.get(key);
        same.set(s.pointer.id, known ?? s.pointer);
        if (known) return [];
        first.set(key, s.pointer);
      }
      return [s];
    }
    if (s.k === "load") return [{ ...s, from: { ...s.from, pointer: same.get(s.from.pointer.id) ?? s.from.pointer } }];
    if (s.k === "store") return [{ ...s, to: { ...s.to, pointer: same.get(s.to.pointer.id) ?? s.to.pointer } }];
    return [s];
  };
  return { ...kernel, body: kernel.body.flatMap(rename) };
}

test("several vectors at a place picked from a word: one address with an index each, or one that is computed", () => {
  const kernel = (target: SimdTarget): Kernel<PointerAddress> => {
    const k = new KernelBuilder("picked", target);
    const [words, x, y] = [k.buffer("words", 8, "read"), k.buffer("x", 3 * 256, "read"), k.buffer("y", 256, "write")];
    const sums = [k.f32(0), k.f32(0)];
    k.loop(0, 2, 1, (i) => {
      const at = k.bits(times(k.loadInt(words, times(i, 4), "i32", 0, 3), 256), 0, 512);
      for (const [v, sum] of sums.entries()) k.accumulate(sum, k.load(x, plus(at, v * target.lanes * 4)), k.f32(2));
    });
    for (const [v, sum] of sums.entries()) k.store(sum, y, v * target.lanes * 4);
    return lowerAddresses(k.build());
  };
  const results = [avx512, { ...avx512, splitsIndexed: true }].map((target) => {
    const [words, x, y] = [Int32Array.of(2, 0), Float32Array.from({ length: 192 }, (_, i) => i), new Float32Array(64)];
    runCode(
      emitKernel(kernel(target), target).finish(),
      [words, x, y].map((a) => new Uint8Array(a.buffer)),
    );
    const adds = listing(kernel(target), target).filter((line) => line.startsWith("vfmadd"));
    return { indexed: adds.filter((line) => /\[r\w+\+r\w+/.test(line)).length, adds: adds.length, y: [...y] };
  });
  expect(results.map(({ indexed, adds }) => [indexed, adds])).toEqual([
    [2, 2],
    [0, 2],
  ]);
  expect(results[0].y.slice(0, 3)).toEqual([256, 260, 264]);
  expect(results[1].y).toEqual(results[0].y);
});

test("gemm tile is right", () => {
  for (const [target, rows] of [
    [avx512, 14],
    [avx2, 6],
    [avx2, 9],
  ] as const) {
    const steps = 5;
    const n = 2 * target.lanes;
    const a = Float32Array.from({ length: steps * rows }, (_, i) => (i % 7) - 3);
    const b = Float32Array.from({ length: steps * n }, (_, i) => (i % 5) - 2);
    const c = new Float32Array(rows * n);
    const bytes = [a, b, c].map((x) => new Uint8Array(x.buffer));
    runCode(emitKernel(sharePointers(lowerWithBumps(gemm(target, rows, steps))), target).finish(), bytes);
    const want = Array.from(c, (_, i) => {
      let sum = 0;
      for (let k = 0; k < steps; k++) sum += a[k * rows + Math.floor(i / n)] * b[k * n + (i % n)];
      return sum;
    });
    expect([...c]).toEqual(want);
  }
});

describe("folding", () => {
  const kernel = (target: SimdTarget, build: (k: KernelBuilder) => void): string[] => {
    const k = new KernelBuilder("fold", target);
    k.buffer("x", 4096, "read");
    k.buffer("y", 4096, "readwrite");
    build(k);
    return listing(lowerPlainly(k.build()), target);
  };
  const count = (lines: string[], pattern: RegExp): number => lines.filter((line) => pattern.test(line)).length;

  test("a load used once becomes a memory operand; a splat an embedded broadcast", () => {
    for (const target of TARGETS) {
      const lines = kernel(target, (k) => {
        const a = k.load(0, 0);
        const sum = k.op("add", k.load(0, 64), k.op("mul", a, k.splat(0, 256)));
        k.store(k.op("max", sum, a), 1, 0);
      });
      expect(count(lines, /^vaddps .*\[/)).toBe(1);
      expect(count(lines, /^vmulps .*\{1to16\}/)).toBe(target.lanes === 16 ? 1 : 0);
      expect(count(lines, /^vmovups .*, \[/)).toBe(1);
    }
  });

  test("what is asked for goes to the cache that was named, and those behind it", () => {
    const lines = kernel(avx512, (k) => {
      k.prefetch(0, 0);
      k.prefetch(0, 64, 2);
    });
    expect(lines.filter((line) => line.startsWith("prefetch")).map((line) => line.split(" ")[0])).toEqual(["prefetcht0", "prefetcht1"]);
  });

  test("a load does not move past a store", () => {
    const lines = kernel(avx512, (k) => {
      const a = k.load(1, 0);
      const b = k.load(1, 64);
      k.store(b, 1, 0);
      k.store(k.op("add", b, a), 1, 128);
    });
    expect(count(lines, /^vaddps .*\[/)).toBe(0);
  });

  test("a comparison used by one select stays in a mask register", () => {
    const lines = kernel(avx512, (k) => {
      const x = k.load(0, 0);
      k.store(k.op("select", x, k.f32(2), k.op("lt", k.f32(1), x)), 1, 0);
    });
    expect(count(lines, /vpmov/)).toBe(0);
    expect(count(lines, /^vblendmps .*\{k1\}/)).toBe(1);
  });

  test("a select of zero clears lanes as it loads", () => {
    const lines = kernel(avx512, (k) => {
      const [a, b] = [k.load(0, 0), k.load(0, 64)];
      k.store(k.op("select", k.load(1, 0), k.f32(0), k.op("iany", a, b)), 1, 64);
    });
    expect(count(lines, /^vptestmd k1/)).toBe(1);
    expect(count(lines, /^vmovups .*\{k1\}\{z\}, \[/)).toBe(1);
    expect(count(lines, /^vblendmps/)).toBe(0);
  });
});

test("constants leave loops; equal ones share a register; those that do not fit become memory operands", () => {
  for (const target of TARGETS) {
    const { lanes } = target;
    const build = (count: number): string[] => {
      const k = new KernelBuilder("constants", target);
      const x = k.buffer("x", 8 * lanes * 4, "readwrite");
      k.loop(0, 8, 1, (i) => {
        let v = k.load(x, times(i, lanes * 4));
        for (let n = 0; n < count; n++) v = k.op("add", k.op("mul", v, k.f32(n + 2)), k.f32(3));
        k.store(v, x, times(i, lanes * 4));
      });
      return listing(lowerWithBumps(k.build()), target);
    };
    const few = build(5);
    const head = few.findIndex((line) => /^L\d+:/.test(line));
    expect(few.slice(0, head).filter((line) => line.startsWith("vbroadcastss")).length).toBe(5);
    expect(few.slice(head).filter((line) => line.startsWith("vbroadcastss"))).toEqual([]);
    const many = build(60);
    expect(many.filter((line) => /^v(mov|broadcast).*rsp/.test(line))).toEqual([]);
    expect(many.filter((line) => /^vmulps .*\[rip/.test(line)).length).toBeGreaterThan(25);
  }
});

test("30 pointers alive in a loop: the ones that do not fit are bumped in memory", () => {
  for (const target of TARGETS) {
    const { lanes } = target;
    const rounds = 4;
    const k = new KernelBuilder("pointers", target);
    const x = k.buffer("x", 30 * rounds * lanes * 4, "read");
    const y = k.buffer("y", 30 * rounds * lanes * 4, "write");
    k.loop(0, rounds, 1, (i) => {
      const v: Vec[] = [];
      for (let n = 0; n < 15; n++) v.push(k.load(x, plus(times(i, lanes * 4), n * rounds * lanes * 4)));
      for (let n = 0; n < 15; n++) k.store(k.op("add", v[n], v[(n + 1) % 15]), y, plus(times(i, lanes * 4), n * rounds * lanes * 4));
    });
    const lowered = lowerWithBumps(k.build());
    expect(listing(lowered, target).some((line) => /^add qword ptr \[rsp/.test(line))).toBe(true);
    const input = Float32Array.from({ length: 30 * rounds * lanes }, (_, i) => i);
    const out = new Float32Array(30 * rounds * lanes);
    runCode(emitKernel(lowered, target).finish(), [new Uint8Array(input.buffer), new Uint8Array(out.buffer)]);
    const row = rounds * lanes;
    expect([...out.subarray(0, 15 * row)]).toEqual(
      Array.from({ length: 15 * row }, (_, i) => input[i] + input[((Math.floor(i / row) + 1) % 15) * row + (i % row)]),
    );
  }
});

test("a trip count of one is no loop, and its pointer bump disappears", () => {
  const pointer = { id: 0 };
  const dst = { id: 1 };
  const kernel: Kernel<PointerAddress> = {
    name: "once",
    lanes: 16,
    threads: 1,
    params: [{ name: "x", bytes: 64, access: "readwrite" }],
    body: [
      { k: "pointer", pointer, from: { buffer: 0 }, add: affine(0) },
      {
        k: "for",
        v: { id: 0, lo: 0, hi: 0 },
        from: affine(0),
        to: affine(1),
        step: 1,
        body: [
          { k: "load", dst, from: { pointer, disp: 0 }, type: "f32", mode: "vec", lanes: 16, stride: 0 },
          { k: "store", src: dst, to: { pointer, disp: 0 }, type: "f32", lanes: 16 },
          { k: "pointer", pointer, from: { pointer }, add: affine(64) },
        ],
      },
    ],
  };
  const lines = listing(kernel, avx512).filter((line) => !line.startsWith(";"));
  expect(lines).toEqual(["mov rax, qword ptr [rdi]", "vmovups zmm0, [rax]", "vmovups [rax], zmm0", "vzeroupper", "ret"]);
});
