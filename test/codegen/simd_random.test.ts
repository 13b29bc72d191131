// Random kernels, compiled and interpreted: loops, branches, many live vectors, integers and bumped pointers, on every SIMD target.
import { describe, expect, test } from "vitest";
import { lowerAddresses } from "../../src/codegen/addresses.ts";
import { type IntVar, type Kernel, KernelBuilder, plus, rangeOf, type SimdTarget, times, type Vec } from "../../src/ir/kernel.ts";
import type { VecOp } from "../../src/ir/kernel_ops.ts";
import { interpret } from "./simd_reference.ts";
import { runLowered, TARGETS } from "./simd_run.ts";
import { lowerPlainly, lowerWithBumps } from "./x86_run.ts";

/** mulberry32. */
function random(seed: number): (n: number) => number {
  let s = seed;
  return (n) => {
    s = (s + 0x6d2b79f5) | 0;
    let t = Math.imul(s ^ (s >>> 15), 1 | s);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % n;
  };
}

const BINARY: readonly VecOp[] = ["iadd", "isub", "imul", "imin", "imax", "ieq", "ilt", "and", "or", "xor", "andnot"];
const FLOATS: readonly VecOp[] = ["add", "sub", "mul", "min", "max", "lt", "le", "fma", "fnma", "neg", "abs"];
const LOOKUPS: readonly VecOp[] = ["lookup", "lookuplow", "lookuphigh"];
const SHIFTS: readonly VecOp[] = ["ishl", "ishr", "iushr"];
const WORDS = 512;

class Writer {
  private readonly k: KernelBuilder;
  private readonly vecs: Vec[] = [];
  private readonly ints: IntVar[] = [];
  private budget = 120;

  constructor(
    private readonly target: SimdTarget,
    private readonly pick: (n: number) => number,
    threads: number,
  ) {
    this.k = new KernelBuilder("random", target, threads);
    this.k.buffer("in", WORDS * 4, "read");
    this.k.buffer("out", WORDS * 4, "readwrite");
  }

  build(): Kernel {
    const { k, pick } = this;
    const alive = 2 + pick(45);
    for (let i = 0; i < alive; i++) this.vecs.push(pick(3) ? k.load(0, 4 * pick(WORDS - 16)) : k.i32(pick(1000) - 500));
    const first = [...this.vecs];
    if (k.threads > 1) k.parallel(1 + pick(9), (v) => this.scope(v, 0));
    else this.block(0);
    if (k.threads > 1) this.vecs.splice(0, alive, ...first);
    this.vecs.forEach((v, i) => {
      k.store(v, 1, 4 * ((i * 17) % (WORDS - 16)));
    });
    return k.build();
  }

  private any<T>(list: readonly T[]): T {
    return list[this.pick(list.length)];
  }
  /** An affine value of the integers in scope, within [0, limit). */
  private index(limit: number): ReturnType<typeof plus> {
    let a = plus(0);
    for (let i = 0; i < this.pick(4) && this.ints.length; i++) {
      const next = plus(a, times(this.any(this.ints), this.any([1, -1, 2, 3, 4, 7, 8, -5])));
      const [lo, hi] = rangeOf(next);
      if (hi - lo < limit) a = next;
    }
    const [lo, hi] = rangeOf(a);
    return plus(a, -lo, this.pick(limit - (hi - lo)));
  }

  private scope(v: IntVar, depth: number): void {
    this.ints.push(v);
    const ints = this.ints.length;
    this.block(depth + 1);
    this.ints.length = ints - 1;
  }

  private block(depth: number): void {
    for (let n = 3 + this.pick(14); n > 0 && this.budget > 0; n--) this.statement(depth);
  }

  private statement(depth: number): void {
    const { k, pick } = this;
    this.budget--;
    const kind = pick(20);
    if (kind < 2 && depth < 3) this.loop(depth);
    else if (kind === 2 && depth < 4) this.branch(depth);
    else if (kind === 3) this.integer();
    else if (kind < 7) this.memory();
    else if (kind === 7) this.vecs[pick(this.vecs.length)] = k.iota(this.index(1000), pick(9) - 4);
    else this.arithmetic();
  }

  private loop(depth: number): void {
    const { k, pick } = this;
    const isComputed = pick(3) === 0 && this.ints.length > 0;
    const from = isComputed ? this.index(4) : pick(4);
    const to = isComputed && pick(2) ? this.index(6) : 1 + pick(7);
    const before = [...this.vecs];
    k.loop(from, to, 1 + pick(3), (v) => this.scope(v, depth));
    // A new vector of the loop's body may not exist when the loop runs no round.
    this.vecs.splice(0, before.length, ...before);
  }

  private branch(depth: number): void {
    const { k } = this;
    const before = [...this.vecs];
    const ints = this.ints.length;
    const arm = (): void => {
      this.block(depth + 1);
      this.vecs.splice(0, before.length, ...before);
      this.ints.length = ints;
    };
    k.when(this.index(8), this.index(8), arm, this.pick(2) ? arm : undefined);
  }

  private integer(): void {
    const { k, pick } = this;
    const a = plus(this.index(200), -60);
    const by = this.any([1, 2, 3, 7, 8, 10, 100]);
    const options = [
      () => k.div(a, by),
      () => k.mod(a, by),
      () => k.min(a, this.index(50)),
      () => k.max(a, plus(this.index(50), -20)),
      () => k.set(a),
      () => k.loadInt(0, times(this.index(WORDS), 4), "i32", -3, 12, pick(20)),
    ];
    this.ints.push(options[pick(options.length)]());
  }

  private memory(): void {
    const { k, pick, vecs } = this;
    const { lanes } = this.target;
    const buffer = pick(2);
    const count = pick(3) ? lanes : 1 + pick(lanes);
    const slot = pick(vecs.length);
    const at = times(this.index(WORDS - 64), 4);
    const options = [
      () => k.load(buffer, at, count, "i32", pick(2) ? vecs[slot] : undefined),
      () => k.splat(buffer, at, "f32", pick(2) ? vecs[slot] : undefined),
      () => k.strided(buffer, at, 4 * (1 + pick(3)), count),
      () => k.gather(buffer, at, this.any(vecs), 1 + pick(60), count),
    ];
    const kind = pick(8);
    if (kind < 2) k.store(this.any(vecs), 1, at, count);
    else vecs[slot] = options[kind < 6 ? pick(2) : 2 + pick(2)]();
  }

  private arithmetic(): void {
    const { k, pick, vecs } = this;
    const slot = pick(vecs.length);
    // Overwriting keeps a vector alive around loops; a new one is free to take another register.
    const dst = pick(3) ? vecs[slot] : undefined;
    const [a, b, c] = [this.any(vecs), this.any(vecs), this.any(vecs)];
    const kind = pick(8);
    const isAvx512 = k.target.name === "avx512";
    const lookups = isAvx512 ? LOOKUPS : LOOKUPS.slice(0, 1);
    if (kind < 3) vecs[slot] = k.op(this.any(BINARY), a, b, undefined, dst);
    else if (kind === 3) vecs[slot] = k.op(this.any(SHIFTS), a, undefined, undefined, dst, pick(20));
    else if (kind === 4) {
      const mask = k.op(this.any(isAvx512 ? ["ilt", "ieq", "lt", "iany"] : ["ilt", "ieq", "lt"]), this.small(a), this.small(b));
      vecs[slot] = k.op(
        "select",
        pick(2) ? this.fresh() : a,
        pick(3) ? b : k.i32(0),
        pick(4) ? mask : k.op("ishr", c, undefined, undefined, undefined, 31),
        dst,
      );
    } else if (kind === 5) vecs[slot] = pick(2) ? k.op("mov", a, undefined, undefined, dst) : k.op(this.any(lookups), a, b, c, dst);
    else {
      const op = this.any(FLOATS);
      const isTernary = op === "fma" || op === "fnma";
      const isUnary = op === "neg" || op === "abs";
      vecs[slot] = k.op(op, this.small(a), isUnary ? undefined : this.small(b), isTernary ? this.small(c) : undefined, dst);
    }
  }
  /** A float of few bits, so that arithmetic on it is exact. */
  private small(v: Vec): Vec {
    return this.k.op("i2f", this.k.op("and", v, this.k.i32(255)));
  }
  private fresh(): Vec {
    return this.k.load(0, times(this.index(WORDS - 16), 4));
  }
}

describe.each(TARGETS)("$name", (target) => {
  test("random kernels do what they say", () => {
    const start = Number(process.env.HEDDLE_SEED ?? 1);
    const rounds = Number(process.env.HEDDLE_ROUNDS ?? 150);
    for (let seed = start; seed < start + rounds; seed++) {
      const pick = random(seed);
      const threads = pick(4) ? 1 : 1 + pick(3);
      const kernel = new Writer(target, pick, threads).build();
      const input = new Uint8Array(Int32Array.from({ length: WORDS }, () => pick(1 << 20) - (1 << 19)).buffer);
      const want = new Uint8Array(WORDS * 4);
      interpret(kernel, [input, want]);
      for (const lower of [lowerPlainly, lowerWithBumps, lowerAddresses]) {
        const got = new Uint8Array(WORDS * 4);
        runLowered(target, lower(kernel), [input, got], threads);
        const at = new Int32Array(got.buffer).findIndex((x, i) => x !== new Int32Array(want.buffer)[i]);
        expect(at, `seed ${seed}, ${lower.name}: word of the output that differs`).toBe(-1);
      }
    }
  });
});
