// Fourier transforms as products with constant matrices where the number of points has small divisors, and as loops elsewhere.
import { type Builder, defineOp, type Op, type Value } from "../ir/graph.ts";
import { elementCount, fromNumbers, type TensorData, toNumbers } from "../ir/tensor.ts";
import { f32 } from "./define.ts";
import { MatMul } from "./matmul.ts";

/** A line of complex numbers to `kept` of the `points` numbers of its transform, times `scale`. */
export interface Transform {
  readonly points: number;
  readonly kept: number;
  /** Of the exponent: -1 forwards. */
  readonly sign: 1 | -1;
  readonly scale: number;
}

/** Real and imaginary parts. */
interface Complex {
  readonly re: Float64Array;
  readonly im: Float64Array;
}
const complex = (n: number): Complex => ({ re: new Float64Array(n), im: new Float64Array(n) });

/** Σ x·e^(sign·2πi·jk/n): halves where n is even (Cooley and Tukey), term by term where it is odd. */
function transform(x: Complex, sign: 1 | -1): Complex {
  const n = x.re.length;
  const y = complex(n);
  if (n % 2 === 0 && n > 0) {
    const half = n / 2;
    const part = (offset: number) =>
      transform({ re: x.re.filter((_, i) => i % 2 === offset), im: x.im.filter((_, i) => i % 2 === offset) }, sign);
    const [even, odd] = [part(0), part(1)];
    for (let k = 0; k < half; k++) {
      const [c, s] = [Math.cos((2 * Math.PI * k) / n), sign * Math.sin((2 * Math.PI * k) / n)];
      const re = odd.re[k] * c - odd.im[k] * s;
      const im = odd.re[k] * s + odd.im[k] * c;
      y.re[k] = even.re[k] + re;
      y.im[k] = even.im[k] + im;
      y.re[k + half] = even.re[k] - re;
      y.im[k + half] = even.im[k] - im;
    }
    return y;
  }
  for (let k = 0; k < n; k++)
    for (let j = 0; j < n; j++) {
      const angle = (2 * Math.PI * ((j * k) % n)) / n;
      const [c, s] = [Math.cos(angle), sign * Math.sin(angle)];
      y.re[k] += x.re[j] * c - x.im[j] * s;
      y.im[k] += x.re[j] * s + x.im[j] * c;
    }
  return y;
}

/** x (lines, points, 1 or 2) → (lines, kept, 2). */
function transformLines(x: TensorData, { points, kept, sign, scale }: Transform): TensorData {
  const [lines, , parts] = x.shape;
  const values = toNumbers(x);
  const out = new Float64Array(lines * kept * 2);
  for (let line = 0; line < lines; line++) {
    const input = complex(points);
    for (let j = 0; j < points; j++) {
      const at = (line * points + j) * parts;
      input.re[j] = values[at];
      input.im[j] = parts === 2 ? values[at + 1] : 0;
    }
    const { re, im } = transform(input, sign);
    for (let k = 0; k < kept; k++) out.set([re[k] * scale, im[k] * scale], (line * kept + k) * 2);
  }
  return fromNumbers(x.dtype, [lines, kept, 2], out);
}

const transformFlops = (numbers: number, points: number): number => 5 * numbers * Math.ceil(Math.log2(1 + points));

const whole = { type: "int" } as const;

/** What products would take too large matrices for. */
export const FourierLoop: Op = defineOp<Transform>({
  name: "FourierLoop",
  kind: "opaque",
  own: true,
  attrs: { points: whole, kept: whole, sign: whole, scale: { type: "float" } },
  infer: ([x], { kept }) => [{ dtype: x!.type.dtype, shape: [x!.type.shape[0], kept, 2] }], // made by expansions only
  evaluate: ([x], { attrs }) => [transformLines(x!, attrs)],
  flops: ({ outputs: [y], attrs }) => transformFlops(elementCount(y.type.shape), attrs.points),
  samples: [
    { inputs: [f32(3, 10, 1)], attrs: { points: 10, kept: 6, sign: -1, scale: 1 } },
    { inputs: [f32(2, 9, 2)], attrs: { points: 9, kept: 9, sign: 1, scale: 1 / 9 } },
  ],
});

/** Lines of more points are transformed in two steps. */
const MOST_DIRECT = 512;

/** The largest number up to its root that divides n. */
function divisorOf(n: number): number {
  let d = Math.floor(Math.sqrt(n));
  while (n % d !== 0) d--;
  return d;
}

function hasProducts(n: number): boolean {
  if (n <= MOST_DIRECT) return true;
  const d = divisorOf(n);
  return d > 1 && hasProducts(d) && hasProducts(n / d);
}

/** x (lines, points, 1 or 2) → (lines, kept, 2), in float32 or float64. */
export function transformed(build: Builder, x: Value, t: Transform): Value {
  if (!hasProducts(t.points)) return build.op(FourierLoop, [x], { ...t });
  return t.points <= MOST_DIRECT ? direct(build, x, t) : inTwoSteps(build, x, t);
}

/** One product: real and imaginary parts of a line are so many numbers. */
function direct(build: Builder, x: Value, { points, kept, sign, scale }: Transform): Value {
  const [lines, , parts] = x.type.shape;
  const matrix = new Float64Array(points * parts * kept * 2);
  for (let j = 0; j < points; j++)
    for (let k = 0; k < kept; k++) {
      const angle = (2 * Math.PI * ((j * k) % points)) / points;
      const [c, s] = [scale * Math.cos(angle), scale * sign * Math.sin(angle)];
      matrix.set([c, s], (j * parts * kept + k) * 2);
      if (parts === 2) matrix.set([-s, c], ((j * parts + 1) * kept + k) * 2);
    }
  const weights = build.tensor(fromNumbers(x.type.dtype, [points * parts, kept * 2], matrix));
  return build.reshape(build.op(MatMul, [build.reshape(x, [lines, points * parts]), weights]), [lines, kept, 2]);
}

/** Of n = a·b points: b lines of a points, factors, a lines of b points (Cooley and Tukey). */
function inTwoSteps(build: Builder, x: Value, { points, kept, sign, scale }: Transform): Value {
  const [lines, , parts] = x.type.shape;
  const a = divisorOf(points);
  const b = points / a;
  const turned = (v: Value): Value => build.transpose(v, [0, 2, 1, 3]);
  const columns = build.reshape(turned(build.reshape(x, [lines, a, b, parts])), [lines * b, a, parts]);
  const first = build.reshape(transformed(build, columns, { points: a, kept: a, sign, scale: 1 }), [lines, b, a, 2]);
  const rows = build.reshape(turned(twiddled(build, first, sign)), [lines * a, b, 2]);
  const second = build.reshape(transformed(build, rows, { points: b, kept: b, sign, scale }), [lines, a, b, 2]);
  const all = build.reshape(turned(second), [lines, points, 2]);
  return kept === points ? all : build.op("Slice", [all, build.ints(0), build.ints(kept), build.ints(1)]);
}

/** x (lines, b, a, 2), each number times e^(sign·2πi·jk/(a·b)) of its places j, k. */
function twiddled(build: Builder, x: Value, sign: 1 | -1): Value {
  const [, b, a] = x.type.shape;
  const [cosines, sines] = [new Float64Array(b * a), new Float64Array(b * a * 2)];
  for (let j = 0; j < b; j++)
    for (let k = 0; k < a; k++) {
      const angle = (2 * Math.PI * j * k) / (a * b);
      const s = sign * Math.sin(angle);
      cosines[j * a + k] = Math.cos(angle);
      sines.set([-s, s], (j * a + k) * 2);
    }
  const factor = (shape: readonly number[], data: Float64Array): Value => build.tensor(fromNumbers(x.type.dtype, shape, data));
  const swapped = build.op("Gather", [x, build.ints(1, 0)], { axis: 3 });
  return build.op("Add", [build.op("Mul", [x, factor([b, a, 1], cosines)]), build.op("Mul", [swapped, factor([b, a, 2], sines)])]);
}
