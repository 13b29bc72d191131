// Layer normalization: every row of (rows, size) to mean 0 and deviation 1, then scale and bias.
import { type Int, type Kernel, KernelBuilder, plus, type SimdTarget, times, type Vec } from "../ir/kernel.ts";

export interface LayerNormShape {
  readonly rows: number;
  readonly size: number;
  readonly epsilon: number;
  readonly hasBias: boolean;
}

/** Buffers: input (rows, size), scale (size), bias (size) if there is one, output. */
export function layerNormKernel(name: string, shape: LayerNormShape, target: SimdTarget, threads: number): Kernel {
  const k = new KernelBuilder(name, target, threads);
  const { rows, size } = shape;
  const input = k.buffer("input", rows * size * 4, "read");
  const scale = k.buffer("scale", size * 4, "read");
  const bias = shape.hasBias ? k.buffer("bias", size * 4, "read") : null;
  const output = k.buffer("output", rows * size * 4, "write");
  if (rows * size === 0) return k.build();
  const code = new LayerNormCode(k, shape, { input, scale, bias, output });
  k.parallel(rows, (row) => code.row(times(row, size * 4)));
  return k.build();
}

interface Buffers {
  readonly input: number;
  readonly scale: number;
  readonly bias: number | null;
  readonly output: number;
}

/** Vectors that are worked on together, each with an accumulator. */
const TOGETHER = 4;

class LayerNormCode {
  private readonly vectors: number;
  /** Whether a row stays in registers between its three passes. */
  private readonly isShort: boolean;

  constructor(
    private readonly k: KernelBuilder,
    private readonly shape: LayerNormShape,
    private readonly buffers: Buffers,
  ) {
    this.vectors = Math.ceil(shape.size / k.lanes);
    this.isShort = this.vectors <= k.target.registers / 2;
  }

  row(start: Int): void {
    const { k, shape } = this;
    const kept: Vec[] = [];
    const read = (at: Int, lanes: number, i: number): Vec => {
      if (!this.isShort) return k.load(this.buffers.input, plus(start, at), lanes);
      kept[i] ??= k.load(this.buffers.input, plus(start, at), lanes);
      return kept[i];
    };
    const mean = k.op(
      "mul",
      this.sum((acc, at, lanes, i) => k.op("add", acc, read(at, lanes, i), undefined, acc)),
      k.f32(1 / shape.size),
    );
    const squares = this.sum((acc, at, lanes, i) => {
      const d = k.op("sub", read(at, lanes, i), mean);
      const counted = lanes === k.lanes ? d : k.op("select", d, k.f32(0), k.op("ilt", k.iota(0), k.i32(lanes)));
      k.accumulate(acc, counted, counted);
    });
    const variance = k.op("fma", squares, k.f32(1 / shape.size), k.f32(shape.epsilon));
    const factor = k.op("div", k.f32(1), k.op("sqrt", variance));
    this.each((at, lanes, i) => this.finish(start, at, lanes, k.op("mul", k.op("sub", read(at, lanes, i), mean), factor)));
  }

  private finish(start: Int, at: Int, lanes: number, normal: Vec): void {
    const { k } = this;
    const { scale, bias, output } = this.buffers;
    const factor = k.load(scale, at, lanes);
    const y = bias === null ? k.op("mul", normal, factor) : k.op("fma", normal, factor, k.load(bias, at, lanes));
    k.store(y, output, plus(start, at), lanes);
  }

  /** Adds up over all vectors of the row; unused lanes of a loaded vector are 0. */
  private sum(add: (acc: Vec, at: Int, lanes: number, i: number) => void): Vec {
    const { k } = this;
    const sums = Array.from({ length: Math.min(TOGETHER, this.vectors) }, () => k.f32(0));
    this.each((at, lanes, i) => add(sums[i % TOGETHER], at, lanes, i));
    return k.op(
      "sumlanes",
      sums.slice(1).reduce((a, b) => k.op("add", a, b), sums[0]),
    );
  }

  /** Byte offset in the row, lanes and number of each vector: straight code for short rows, else a loop over bundles. */
  private each(f: (at: Int, lanes: number, i: number) => void): void {
    const { k, shape } = this;
    const span = TOGETHER * k.lanes;
    const whole = this.isShort ? 0 : Math.floor(shape.size / span);
    k.loop(0, whole, 1, (v) => {
      for (let i = 0; i < TOGETHER; i++) f(plus(times(v, span * 4), i * k.lanes * 4), k.lanes, i);
    });
    for (let at = whole * span, i = 0; at < shape.size; at += k.lanes, i++) f(at * 4, Math.min(k.lanes, shape.size - at), i);
  }
}
