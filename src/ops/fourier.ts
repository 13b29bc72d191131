// Fourier transforms and what goes with them: DFT, STFT, MelWeightMatrix.
import { DTYPES, type DType } from "../ir/dtype.ts";
import { HeddleError } from "../ir/error.ts";
import { type AttrSpec, defineOp, type Op, type Value } from "../ir/graph.ts";
import { elementCount, fromNumbers, type Shape, toNumbers } from "../ir/tensor.ts";
import { dtypeAttribute } from "./cast.ts";
import { constantNumbers, emittable, FLOATS, f32, inputType, normalizeAxis, requiredNumbers, scalarOf } from "./define.ts";

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

interface DftAttrs {
  readonly inverse: number;
  readonly onesided: number;
}

interface DftPlan {
  readonly axis: number;
  /** Points of the transform: the axis is cut, or padded with zeros, to it. */
  readonly points: number;
  readonly kept: number;
}

function dftPlan(inputs: readonly (Value | null)[], { inverse, onesided }: DftAttrs): DftPlan {
  const { shape } = inputType("DFT", inputs, 0, FLOATS);
  if (shape.length < 2 || (shape.at(-1) !== 1 && shape.at(-1) !== 2))
    throw new HeddleError("bad-model", `DFT: input 0 is (${shape}), wanted a last axis of 1 (real) or 2 (complex)`);
  const [given] = constantNumbers("DFT", inputs, 2, "the axis") ?? [-2];
  const axis = normalizeAxis("DFT", given, shape.length);
  if (axis === shape.length - 1) throw new HeddleError("bad-model", "DFT: the last axis holds the parts of complex numbers");
  const [points] = constantNumbers("DFT", inputs, 1, "the length") ?? [shape[axis]];
  if (!(points >= 1)) throw new HeddleError("bad-model", `DFT: length ${points} is not positive`);
  if (inverse && onesided) throw new HeddleError("unsupported", "DFT: inverse and onesided together are not supported");
  return { axis, points, kept: onesided ? Math.floor(points / 2) + 1 : points };
}

const DFT: Op = defineOp<DftAttrs>({
  name: "DFT",
  kind: "opaque",
  attrs: { inverse: { type: "int", default: 0 }, onesided: { type: "int", default: 0 } },
  infer(inputs, attrs) {
    const { axis, kept } = dftPlan(inputs, attrs);
    const { dtype, shape } = inputs[0]!.type; // dftPlan has seen it
    return [{ dtype, shape: shape.with(axis, kept).with(-1, 2) }];
  },
  evaluate([x], node) {
    const { axis, points, kept } = dftPlan(node.inputs, node.attrs);
    const { dtype, shape } = x!; // checked by infer
    const values = toNumbers(x!);
    const parts = shape[shape.length - 1];
    const inner = elementCount(shape.slice(axis + 1, -1));
    const outer = elementCount(shape.slice(0, axis));
    const out = new Float64Array(outer * kept * inner * 2);
    const scale = node.attrs.inverse ? 1 / points : 1;
    for (let line = 0; line < outer * inner; line++) {
      const [o, i] = [Math.floor(line / inner), line % inner];
      const input = complex(points);
      for (let k = 0; k < Math.min(points, shape[axis]); k++) {
        const at = ((o * shape[axis] + k) * inner + i) * parts;
        input.re[k] = values[at];
        input.im[k] = parts === 2 ? values[at + 1] : 0;
      }
      const result = transform(input, node.attrs.inverse ? 1 : -1);
      for (let k = 0; k < kept; k++) {
        const to = ((o * kept + k) * inner + i) * 2;
        out[to] = result.re[k] * scale;
        out[to + 1] = result.im[k] * scale;
      }
    }
    return [fromNumbers(dtype, node.outputs[0].type.shape, out)];
  },
  // Up to opset 19 the axis was an attribute.
  importOnnx({ emit, inputs, attrs: { axis, ...attrs }, opset, constant }) {
    if (opset >= 20) return emit(emittable(DFT), inputs, { ...attrs, ...(axis === undefined ? {} : { axis }) });
    const at = constant(scalarOf("i64", typeof axis === "number" ? axis : 1));
    return emit(emittable(DFT), [inputs[0] ?? null, inputs[1] ?? null, at], attrs);
  },
  flops(node) {
    const { points } = dftPlan(node.inputs, node.attrs);
    return 5 * elementCount(node.outputs[0].type.shape) * Math.ceil(Math.log2(1 + points));
  },
  samples: [
    { inputs: [f32(2, 8, 1)], attrs: { onesided: 1 } },
    { inputs: [f32(1, 6, 3, 2), scalarOf("i64", 5), scalarOf("i64", 1)], attrs: { inverse: 1 } },
    { inputs: [f32(3, 4, 1), scalarOf("i64", 8), scalarOf("i64", 0)] },
  ],
});

interface Frames {
  readonly step: number;
  readonly length: number;
  readonly count: number;
  readonly bins: number;
}

function framesOf(inputs: readonly (Value | null)[], onesided: number): Frames {
  const { dtype, shape } = inputType("STFT", inputs, 0, FLOATS);
  const isSignal = shape.length === 2 || (shape.length === 3 && (shape[2] === 1 || shape[2] === 2));
  if (!isSignal) throw new HeddleError("bad-model", `STFT: the signal is (${shape}), wanted (batch, length, 1 or 2)`);
  const [step] = requiredNumbers("STFT", inputs, 1, "the frame step");
  const window = inputs[2] ? inputType("STFT", inputs, 2, [dtype]).shape : undefined;
  const [length] = constantNumbers("STFT", inputs, 3, "the frame length") ?? [window?.[0] ?? 0];
  if (!(step >= 1 && length >= 1 && length <= shape[1]) || (window && window.join() !== `${length}`))
    throw new HeddleError(
      "bad-model",
      `STFT: frames of ${length}, step ${step}, window (${window ?? ""}) do not fit a signal of ${shape[1]}`,
    );
  if (onesided && shape[2] === 2) throw new HeddleError("bad-model", "STFT: onesided wants a real signal");
  return { step, length, count: Math.floor((shape[1] - length) / step) + 1, bins: onesided ? Math.floor(length / 2) + 1 : length };
}

/** signal (N, length, 1 or 2) → (N, frames, bins, 2). */
const STFT: Op = defineOp<{ onesided: number }>({
  name: "STFT",
  kind: "opaque",
  attrs: { onesided: { type: "int", default: 1 } },
  infer(inputs, { onesided }) {
    const { count, bins } = framesOf(inputs, onesided);
    const { dtype, shape } = inputs[0]!.type; // framesOf has seen it
    return [{ dtype, shape: [shape[0], count, bins, 2] }];
  },
  evaluate([signal, , window], node) {
    const { step, length, count, bins } = framesOf(node.inputs, node.attrs.onesided);
    const [batch, size, parts = 1] = signal!.shape; // checked by infer
    const values = toNumbers(signal!);
    const weights = window ? toNumbers(window) : new Float64Array(length).fill(1);
    const out = new Float64Array(batch * count * bins * 2);
    for (let frame = 0; frame < batch * count; frame++) {
      const start = Math.floor(frame / count) * size + (frame % count) * step;
      const input = complex(length);
      for (let k = 0; k < length; k++) {
        input.re[k] = values[(start + k) * parts] * weights[k];
        input.im[k] = parts === 2 ? values[(start + k) * parts + 1] * weights[k] : 0;
      }
      const result = transform(input, -1);
      for (let k = 0; k < bins; k++) {
        out[(frame * bins + k) * 2] = result.re[k];
        out[(frame * bins + k) * 2 + 1] = result.im[k];
      }
    }
    return [fromNumbers(signal!.dtype, node.outputs[0].type.shape, out)];
  },
  flops: (node) =>
    5 * elementCount(node.outputs[0].type.shape) * Math.ceil(Math.log2(1 + framesOf(node.inputs, node.attrs.onesided).length)),
  samples: [
    { inputs: [f32(1, 32, 1), scalarOf("i64", 8), null, scalarOf("i64", 16)] },
    { inputs: [f32(2, 20, 1), scalarOf("i64", 4), f32(7)], attrs: { onesided: 0 } },
  ],
});

/** Numbers of filters, points and samples a second, and the range of frequencies in Hz. */
function melPlan(inputs: readonly (Value | null)[]): { shape: Shape; rate: number; points: number; lower: number; upper: number } {
  const what = ["the number of filters", "the transform's length", "the sample rate", "the lower frequency", "the upper frequency"];
  const [filters, points, rate, lower, upper] = what.map((name, i) => requiredNumbers("MelWeightMatrix", inputs, i, name)[0]);
  if (!(filters >= 1 && points >= 1 && rate > 0 && lower <= upper))
    throw new HeddleError("bad-model", `MelWeightMatrix: ${filters} filters, ${points} points, ${rate} Hz, from ${lower} to ${upper} Hz`);
  return { shape: [Math.floor(points / 2) + 1, filters], rate, points, lower, upper };
}

/** Triangles over the bins of a spectrum, evenly spaced on the mel scale. */
const MelWeightMatrix: Op = defineOp<{ output_datatype: number }>({
  name: "MelWeightMatrix",
  kind: "opaque",
  attrs: { output_datatype: { type: "int", default: DTYPES.f32.onnx } satisfies AttrSpec },
  infer(inputs, { output_datatype }) {
    const dtype: DType = dtypeAttribute("MelWeightMatrix", output_datatype);
    return [{ dtype, shape: melPlan(inputs).shape }];
  },
  evaluate(_, node) {
    const { shape, rate, points, lower, upper } = melPlan(node.inputs);
    const [bins, filters] = shape;
    const mel = (hz: number) => 2595 * Math.log10(1 + hz / 700);
    const hertz = (m: number) => 700 * (10 ** (m / 2595) - 1);
    const step = (mel(upper) - mel(lower)) / (filters + 2);
    const edge = (i: number) => Math.floor(((points + 1) * hertz(mel(lower) + i * step)) / rate);
    const out = new Float64Array(bins * filters);
    for (let i = 0; i < filters; i++) {
      const [low, centre, high] = [edge(i), edge(i + 1), edge(i + 2)];
      const set = (bin: number, v: number) => {
        if (bin >= 0 && bin < bins) out[bin * filters + i] = v;
      };
      if (low === centre) set(centre, 1);
      else for (let j = Math.max(0, low); j <= Math.min(centre, bins - 1); j++) set(j, (j - low) / (centre - low));
      for (let j = Math.max(0, centre); j < Math.min(high, bins); j++) set(j, (high - j) / (high - centre));
    }
    return [fromNumbers(node.outputs[0].type.dtype, shape, out)];
  },
  samples: [{ inputs: [scalarOf("i64", 8), scalarOf("i64", 16), scalarOf("i64", 8192), scalarOf("f32", 0), scalarOf("f32", 4096)] }],
});

export const fourierOps: readonly Op[] = [DFT, STFT, MelWeightMatrix];
