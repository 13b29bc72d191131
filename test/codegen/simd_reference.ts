// Runs a kernel statement by statement in JavaScript: what random kernels are held against. Only operations whose result is one bit pattern.
import type { Affine, BufferAddress, IntVar, Kernel, Stmt, Vec } from "../../src/ir/kernel.ts";

type VecStmt = Extract<Stmt, { k: "vec" }>;
const scratch = new DataView(new ArrayBuffer(4));
const toFloat = (x: number): number => {
  scratch.setInt32(0, x);
  return scratch.getFloat32(0);
};
const toInt = (x: number): number => {
  scratch.setFloat32(0, x);
  return scratch.getInt32(0);
};

/** What is smaller than every normal number is a zero of its sign. */
const flushed = (x: number): number => (Math.abs(x) < 2 ** -126 ? x * 0 : x);

/** c + a₁·b₁ + a₀·b₀ on words, each sum rounded; the upper numbers, 1, first. */
export function dotbf16(a: number, b: number, c: number): number {
  const upper = (word: number): number => flushed(toFloat(word & -0x10000));
  const lower = (word: number): number => flushed(toFloat(word << 16));
  const first = flushed(Math.fround(flushed(toFloat(c)) + upper(a) * upper(b)));
  return toInt(flushed(Math.fround(first + lower(a) * lower(b))));
}

const FLOAT: Partial<Record<VecStmt["op"], (a: number, b: number, c: number) => number>> = {
  add: (a, b) => a + b,
  sub: (a, b) => a - b,
  mul: (a, b) => a * b,
  min: (a, b) => [b, a][Number(a < b)],
  max: (a, b) => [b, a][Number(a > b)],
  fma: (a, b, c) => a * b + c,
  fnma: (a, b, c) => c - a * b,
  neg: (a) => -a,
  abs: Math.abs,
};
const INT: Partial<Record<VecStmt["op"], (a: number, b: number, c: number, imm: number) => number>> = {
  mov: (a) => a,
  dotbf16,
  iadd: (a, b) => (a + b) | 0,
  isub: (a, b) => (a - b) | 0,
  imul: Math.imul,
  imin: (a, b) => Math.min(a, b),
  imax: (a, b) => Math.max(a, b),
  ieq: (a, b) => -Number(a === b),
  ilt: (a, b) => -Number(a < b),
  iany: (a, b) => -Number((a & b) !== 0),
  lt: (a, b) => -Number(toFloat(a) < toFloat(b)),
  le: (a, b) => -Number(toFloat(a) <= toFloat(b)),
  and: (a, b) => a & b,
  or: (a, b) => a | b,
  xor: (a, b) => a ^ b,
  andnot: (a, b) => ~a & b,
  select: (a, b, c) => (c < 0 ? a : b),
  ishl: (a, _b, _c, imm) => a << imm,
  ishr: (a, _b, _c, imm) => a >> imm,
  iushr: (a, _b, _c, imm) => (a >>> imm) | 0,
  i2f: (a) => toInt(a),
};

/** Runs the kernel for every thread in turn, changing the buffers. Memory types f32 and i32 only. */
export function interpret(kernel: Kernel, buffers: readonly Uint8Array[]): void {
  const views = buffers.map((b) => new DataView(b.buffer, b.byteOffset, b.byteLength));
  for (let tid = 0; tid < kernel.threads; tid++) new Interpreter(kernel, views, tid).run(kernel.body);
}

/** The 16-bit halves of lanes, low ones first. */
const halvesOf = (lanes: Int32Array): Uint16Array => new Uint16Array(lanes.buffer, lanes.byteOffset, 2 * lanes.length);

class Interpreter {
  private readonly vecs = new Map<number, Int32Array>();
  private readonly ints = new Map<number, number>();

  constructor(
    private readonly kernel: Kernel,
    private readonly views: readonly DataView[],
    private readonly tid: number,
  ) {}

  private value(a: Affine): number {
    return a.terms.reduce((sum, t) => sum + t.c * (this.ints.get(t.v.id) as number), a.base);
  }
  private vec(v: Vec): Int32Array {
    const x = this.vecs.get(v.id);
    if (!x) throw new Error(`vector ${v.id} read before it is written`);
    return x;
  }
  private set(v: Vec, lane: (i: number) => number): void {
    this.vecs.set(
      v.id,
      Int32Array.from({ length: this.kernel.lanes }, (_, i) => lane(i)),
    );
  }
  private word(a: BufferAddress, more: number): number {
    return this.views[a.buffer].getInt32(this.value(a.at) + more, true);
  }

  run(stmts: readonly Stmt[]): void {
    for (const s of stmts) this.one(s);
  }

  private loop(v: IntVar, from: number, to: number, step: number, body: readonly Stmt[]): void {
    for (let i = from; i < to; i += step) {
      this.ints.set(v.id, i);
      this.run(body);
    }
  }

  private one(s: Stmt): void {
    switch (s.k) {
      case "for":
        this.loop(s.v, this.value(s.from), this.value(s.to), s.step, s.body);
        break;
      case "parallel": {
        const chunk = Math.ceil(s.extent / this.kernel.threads);
        this.loop(s.v, this.tid * chunk, Math.min(s.extent, (this.tid + 1) * chunk), 1, s.body);
        break;
      }
      case "if":
        this.run(this.value(s.a) < this.value(s.b) ? s.body : s.otherwise);
        break;
      case "int": {
        const [a, b] = [this.value(s.a), this.value(s.b)];
        const floor = Math.floor(a / b);
        this.ints.set(
          s.v.id,
          { div: floor, mod: a - floor * b, bits: (a >> s.shift) & b, min: Math.min(a, b), max: Math.max(a, b), set: a }[s.op],
        );
        break;
      }
      case "loadint": {
        let x = this.word(s.from, 0);
        if (x < 0) x += s.wrap;
        this.ints.set(s.v.id, Math.min(s.v.hi, Math.max(s.v.lo, x)));
        break;
      }
      case "const":
        this.set(s.dst, () => (s.type === "f32" ? toInt(s.value) : s.value | 0));
        break;
      case "iota":
        this.set(s.dst, (i) => (this.value(s.a) + i * s.step) | 0);
        break;
      case "load":
        if (s.mode === "quad") this.set(s.dst, (i) => this.word(s.from, 4 * (i % 4)));
        else this.set(s.dst, (i) => (s.mode === "splat" ? this.word(s.from, 0) : i < s.lanes ? this.word(s.from, i * (s.stride || 4)) : 0));
        break;
      case "gather": {
        const index = this.vec(s.index);
        this.set(s.dst, (i) => (i < s.lanes ? this.word(s.from, 4 * Math.min(s.count - 1, Math.max(0, index[i]))) : 0));
        break;
      }
      case "expand": {
        const bits = this.views[s.bits.buffer].getUint16(this.value(s.bits.at), true);
        let next = 0;
        this.set(s.dst, (i) => ((bits >> i) & 1 ? this.word(s.from, 4 * next++) : 0));
        break;
      }
      case "store": {
        const at = this.value(s.to.at);
        this.vec(s.src)
          .subarray(0, s.lanes)
          .forEach((x, i) => {
            this.views[s.to.buffer].setInt32(at + 4 * i, x, true);
          });
        break;
      }
      case "vec":
        this.operation(s);
        break;
      case "prefetch":
      case "pointer":
        break;
      default:
        s satisfies never;
    }
  }

  private operation(s: VecStmt): void {
    const [a, b, c] = [s.a, s.b, s.c].map((v) => (v ? this.vec(v) : new Int32Array(this.kernel.lanes)));
    if (s.op === "lookup") {
      const table = [...a, ...b];
      this.set(s.dst, (i) => table[c[i] & (table.length - 1)]);
      return;
    }
    if (s.op === "lookuplow" || s.op === "lookuphigh") {
      const table = [...halvesOf(a), ...halvesOf(b)];
      const shift = s.op === "lookuplow" ? 0 : 16;
      this.set(s.dst, (i) => (c[i] & ~(0xffff << shift)) | (table[(c[i] >> shift) & (table.length - 1)] << shift));
      return;
    }
    if (s.op === "bytes") {
      const [from, which] = [new Uint8Array(a.buffer), new Uint8Array(b.buffer)];
      const picked = new Int32Array(which.map((n, i) => (n & 0xf0 ? 0 : from[i - (i % 16) + n])).buffer);
      this.set(s.dst, (i) => picked[i]);
      return;
    }
    const float = FLOAT[s.op];
    const int = INT[s.op];
    if (!float && !int) throw new Error(`${s.op} is not interpreted`);
    this.set(s.dst, (i) =>
      float ? toInt(float(toFloat(a[i]), toFloat(b[i]), toFloat(c[i]))) : (int as NonNullable<typeof int>)(a[i], b[i], c[i], s.imm ?? 0),
    );
  }
}
