// Softmax and its logarithm along one axis: (outer, size, inner) in, the same out; lanes along the axis, or along inner where that is longer than 1.
import { type Int, type Kernel, KernelBuilder, plus, type SimdTarget, times, type Vec } from "../ir/kernel.ts";
import { vectorFn } from "../lower/vector_math.ts";

export interface SoftmaxShape {
  readonly outer: number;
  readonly size: number;
  readonly inner: number;
  readonly isLog: boolean;
}

/** Buffers: input, output (they may be the same). Stable: the largest element is subtracted first. */
export function softmaxKernel(name: string, shape: SoftmaxShape, target: SimdTarget, threads: number): Kernel {
  const k = new KernelBuilder(name, target, threads);
  const bytes = shape.outer * shape.size * shape.inner * 4;
  const input = k.buffer("input", bytes, "read");
  const output = k.buffer("output", bytes, "readwrite");
  if (bytes === 0) return k.build();
  const code = new SoftmaxCode(k, shape, input, output);
  if (shape.inner === 1) k.parallel(shape.outer, (row) => code.row(times(row, shape.size * 4)));
  else code.columns();
  return k.build();
}

/** Vectors that are worked on together. */
const TOGETHER = 4;

/** Calls `each` for the vectors of n elements, `together` in a loop's body: byte offset, number in its bundle, lanes. */
function vectors(k: KernelBuilder, n: number, together: number, each: (at: Int, i: number, lanes: number) => void): void {
  const span = together * k.lanes;
  const whole = Math.floor(n / span);
  k.loop(0, whole, 1, (v) => {
    for (let i = 0; i < together; i++) each(plus(times(v, span * 4), i * k.lanes * 4), i, k.lanes);
  });
  for (let at = whole * span, i = 0; at < n; at += k.lanes, i++) each(at * 4, i, Math.min(k.lanes, n - at));
}

class SoftmaxCode {
  constructor(
    private readonly k: KernelBuilder,
    private readonly shape: SoftmaxShape,
    private readonly input: number,
    private readonly output: number,
  ) {}

  /** One accumulator for each vector of a bundle. */
  private accumulators(value: number): Vec[] {
    const count = Math.min(TOGETHER, Math.ceil(this.shape.size / this.k.lanes));
    return Array.from({ length: count }, () => this.k.f32(value));
  }
  private joined(op: "add" | "max", [first, ...others]: readonly Vec[]): Vec {
    return others.reduce((a, b) => this.k.op(op, a, b), first);
  }
  /** v in the lanes in use, `other` in the rest. */
  private limited(v: Vec, lanes: number, other: number): Vec {
    const { k } = this;
    return lanes === k.lanes ? v : k.op("select", v, k.f32(other), k.op("ilt", k.iota(0), k.i32(lanes)));
  }

  /** A contiguous row at byte offset `start`. */
  row(start: Int): void {
    const { k, shape, input, output } = this;
    const each = (f: (at: Int, i: number, lanes: number) => void, together = TOGETHER): void =>
      vectors(k, shape.size, together, (at, i, n) => f(plus(start, at), i, n));
    const tops = this.accumulators(Number.NEGATIVE_INFINITY);
    each((at, i, lanes) =>
      k.op("max", tops[i], this.limited(k.load(input, at, lanes), lanes, Number.NEGATIVE_INFINITY), undefined, tops[i]),
    );
    const top = k.op("maxlanes", this.joined("max", tops));
    const sums = this.accumulators(0);
    // The constants of the exponential take most of 16 registers.
    const exponentials = k.target.registers < 32 ? 1 : TOGETHER;
    each((at, i, lanes) => {
      const e = vectorFn(k, "exp", k.op("sub", k.load(input, at, lanes), top));
      if (!shape.isLog) k.store(e, output, at, lanes);
      k.op("add", sums[i], this.limited(e, lanes, 0), undefined, sums[i]);
    }, exponentials);
    const sum = k.op("sumlanes", this.joined("add", sums));
    if (shape.isLog) {
      const log = vectorFn(k, "log", sum);
      each((at, _, lanes) => k.store(k.op("sub", k.op("sub", k.load(input, at, lanes), top), log), output, at, lanes));
    } else {
      const factor = k.op("div", k.f32(1), sum);
      each((at, _, lanes) => k.store(k.op("mul", k.load(output, at, lanes), factor), output, at, lanes));
    }
  }

  /** Lanes along inner: vectors of neighbouring columns, each with its own sum. */
  columns(): void {
    const { k, shape } = this;
    const { outer, size, inner } = shape;
    const whole = Math.floor(inner / k.lanes);
    const rest = inner - whole * k.lanes;
    const place = (row: Int, column: Int): Int => plus(times(row, size * inner * 4), times(column, k.lanes * 4));
    if (whole > 0)
      k.parallel(outer * whole, (v) => this.column(whole === 1 ? place(v, 0) : place(k.div(v, whole), k.mod(v, whole)), k.lanes));
    if (rest > 0) k.parallel(outer, (row) => this.column(place(row, whole), rest));
  }

  private column(start: Int, lanes: number): void {
    const { k, shape, input, output } = this;
    const { size, inner, isLog } = shape;
    const each = (f: (at: Int) => void): void => k.loop(0, size, 1, (v) => f(plus(start, times(v, inner * 4))));
    const top = k.f32(Number.NEGATIVE_INFINITY);
    each((at) => k.op("max", top, k.load(input, at, lanes), undefined, top));
    const sum = k.f32(0);
    each((at) => {
      const e = vectorFn(k, "exp", k.op("sub", k.load(input, at, lanes), top));
      if (!isLog) k.store(e, output, at, lanes);
      k.op("add", sum, e, undefined, sum);
    });
    const last = isLog ? vectorFn(k, "log", sum) : k.op("div", k.f32(1), sum);
    each((at) => {
      const v = isLog ? k.op("sub", k.op("sub", k.load(input, at, lanes), top), last) : k.op("mul", k.load(output, at, lanes), last);
      k.store(v, output, at, lanes);
    });
  }
}
