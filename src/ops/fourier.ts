// Fourier transforms and what goes with them: DFT, STFT, MelWeightMatrix.
import { DTYPES, type DType } from "../ir/dtype.ts";
import { HeddleError } from "../ir/error.ts";
import { type AttrSpec, type Builder, defineOp, type Op, type Value } from "../ir/graph.ts";
import { elementCount, fromNumbers, type Shape } from "../ir/tensor.ts";
import { builder } from "./build.ts";
import { dtypeAttribute } from "./cast.ts";
import { constantNumbers, emittable, FLOATS, f32, inputType, normalizeAxis, requiredNumbers, scalarOf } from "./define.ts";
import { FourierLoop, transformed } from "./fourier_products.ts";

/** Float32 where the type is narrower. */
const wideType = (dtype: DType): DType => (dtype === "f64" ? "f64" : "f32");

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

/** x cut, or filled up with zeros, along an axis. */
function ofLength(build: Builder, x: Value, axis: number, length: number): Value {
  const { shape } = x.type;
  const more = length - shape[axis];
  if (more < 0) return build.op("Slice", [x, build.ints(0), build.ints(length), build.ints(axis)]);
  return more === 0 ? x : build.op("Pad", [x, build.ints(0, more), null, build.ints(axis)]);
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
  expand(inputs, attrs, node) {
    const { axis, points, kept } = dftPlan(inputs, attrs);
    const build = builder(node.from);
    const { dtype, shape } = node.outputs[0].type;
    const x = ofLength(build, build.cast(inputs[0]!, wideType(dtype)), axis, points); // dftPlan has seen it
    // The axis next to the last, and all others before it.
    const last = shape.length - 1;
    const others = shape.flatMap((_, i) => (i === axis || i === last ? [] : [i]));
    const order = [...others, axis, last];
    const sizes = others.map((i) => shape[i]);
    const lines = build.reshape(build.transpose(x, order), [elementCount(sizes), points, x.type.shape[last]]);
    const y = transformed(build, lines, { points, kept, sign: attrs.inverse ? 1 : -1, scale: attrs.inverse ? 1 / points : 1 });
    const back = shape.map((_, i) => order.indexOf(i));
    return [build.cast(build.transpose(build.reshape(y, [...sizes, kept, 2]), back), dtype)];
  },
  // Up to opset 19 the axis was an attribute.
  importOnnx({ emit, inputs, attrs: { axis, ...attrs }, opset, constant }) {
    if (opset >= 20) return emit(emittable(DFT), inputs, { ...attrs, ...(axis === undefined ? {} : { axis }) });
    const at = constant(scalarOf("i64", typeof axis === "number" ? axis : 1));
    return emit(emittable(DFT), [inputs[0] ?? null, inputs[1] ?? null, at], attrs);
  },
  samples: [
    { inputs: [f32(2, 8, 1)], attrs: { onesided: 1 } },
    { inputs: [f32(1, 6, 3, 2), scalarOf("i64", 5), scalarOf("i64", 1)], attrs: { inverse: 1 } },
    { inputs: [f32(3, 4, 1), scalarOf("i64", 8), scalarOf("i64", 0)] },
  ],
});

function gcd(a: number, b: number): number {
  return b === 0 ? a : gcd(b, a % b);
}

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
  expand(inputs, { onesided }, node) {
    const { step, length, count, bins } = framesOf(inputs, onesided);
    const build = builder(node.from);
    const { dtype, shape } = node.outputs[0].type;
    const signal = build.cast(inputs[0]!, wideType(dtype)); // framesOf has seen it
    const [batch, size, parts = 1] = signal.type.shape;
    // Frames begin and end at multiples of what step and length have in common: so many samples are moved together.
    const run = gcd(step, length);
    const runs = Math.floor(size / run);
    const samples = build.reshape(ofLength(build, signal, 1, runs * run), [batch, runs, run * parts]);
    const places = Array.from({ length: count * (length / run) }, (_, i) => {
      const [frame, k] = [Math.floor(i / (length / run)), i % (length / run)];
      return frame * (step / run) + k;
    });
    const frames = build.reshape(build.op("Gather", [samples, build.constant("i64", places)], { axis: 1 }), [batch * count, length, parts]);
    const window = inputs[2] && build.reshape(build.cast(inputs[2], wideType(dtype)), [length, 1]);
    const seen = window ? build.op("Mul", [frames, window]) : frames;
    const y = transformed(build, seen, { points: length, kept: bins, sign: -1, scale: 1 });
    return [build.cast(build.reshape(y, shape), dtype)];
  },
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

export const fourierOps: readonly Op[] = [DFT, STFT, MelWeightMatrix, FourierLoop];
