// Whole schedules for a GPU with libraries, run in JavaScript: what is given to a library, with which tail, and that all of it together is the network.
import { describe, expect, test } from "vitest";
import type { DTYPES, DType } from "../../src/ir/dtype.ts";
import { asCodes, asMoved, float8ToNumber } from "../../src/ir/float8.ts";
import { apply, type Graph, type Value } from "../../src/ir/graph.ts";
import { type GpuKernel, isLibraryKernel, type LibraryConv, type LibraryGemm } from "../../src/ir/library_kernel.ts";
import type { Precision } from "../../src/ir/precision.ts";
import type { SimtTarget } from "../../src/ir/simt.ts";
import { roundEven } from "../../src/ir/small_floats.ts";
import { elementCount, fromNumbers, type TensorData, toNumbers } from "../../src/ir/tensor.ts";
import { convolve } from "../../src/ops/conv.ts";
import { evaluateGraph, OPS } from "../../src/ops/index.ts";
import { multiply, productGeometry } from "../../src/ops/matmul.ts";
import { constantOf, constantValue, input } from "../../src/ops/source.ts";
import { gpuBackend } from "../../src/run/gpu/backend.ts";
import { scheduleGraph } from "../../src/run/schedule.ts";
import type { Place } from "../../src/run/step.ts";
import { randomNumbers } from "../run/devices.ts";
import { H200, runKernel } from "./simt_machine.ts";

const target: SimtTarget = { ...H200, hasGemm: true, hasFloat8: true, hasConvolutions: true };

const op = (name: string, inputs: readonly Value[], attrs: object = {}): Value => apply(OPS.get(name)!, inputs, { ...attrs }, name)[0]; // ONNX's
const numbers = (shape: readonly number[], scale: number, seed: number): Value =>
  constantValue(
    fromNumbers(
      "f32",
      shape,
      randomNumbers(seed, elementCount(shape)).map((v) => v * scale),
    ),
  );
const numbers64 = (...list: readonly number[]): Value => constantValue(fromNumbers("i64", [list.length], list));
const conv = (x: Value, outChannels: number, kernel: number, stride: number, seed: number): Value => {
  const pad = (kernel - 1) / 2;
  const weights = numbers([outChannels, x.type.shape[1], kernel, kernel], 1 / (kernel * Math.sqrt(x.type.shape[1])), seed);
  return op("Conv", [x, weights, numbers([outChannels], 0.5, seed + 1)], { strides: [stride, stride], pads: [pad, pad, pad, pad] });
};
const relu = (x: Value): Value => op("Relu", [x]);

/** What a place of a constant, a value or a temporary holds. */
function memoryOf(data: Readonly<Record<string, TensorData>>, inputs: readonly Value[], owners: ReadonlyMap<Value, Value>) {
  const memory = new Map<unknown, Float64Array>(inputs.map((v, i) => [v, toNumbers(data[`in${i}`])]));
  return (place: Place, { dtype, elements }: { dtype: keyof typeof DTYPES; elements: number }): Float64Array => {
    if (place.k === "constant") return toNumbers({ dtype: asMoved(dtype), shape: [elements], data: place.data });
    if (place.k === "packed") {
      const out = new Float32Array(elements);
      place.pack(out);
      return Float64Array.from(out);
    }
    const constant = place.k === "value" ? constantOf(place.value) : undefined;
    if (constant) return toNumbers(asCodes(constant));
    const key = place.k === "value" ? (owners.get(place.value) ?? place.value) : `temporary ${place.id}`;
    const known = memory.get(key);
    if (known && known.length >= elements) return known;
    const made = new Float64Array(elements);
    memory.set(key, made);
    return made;
  };
}

/** Codes as their numbers times a scale. */
const decoded = (codes: Float64Array, [scale]: Float64Array): Float64Array => codes.map((code) => float8ToNumber("f8e4m3fn", code) * scale);

/** Products as they lie. */
function product({ m, n, k, isRightTransposed }: LibraryGemm, [a, b]: readonly Float64Array[]): Float64Array {
  return multiply(a, isRightTransposed ? b.map((_, i) => b[(i % n) * k + Math.floor(i / n)]) : b, productGeometry("gemm", [m, k], [k, n]));
}

function convolution(kernel: LibraryConv, [x, w]: readonly Float64Array[]): Float64Array {
  const { images, inChannels, outChannels, groups } = kernel;
  const taps = elementCount(kernel.kernel);
  const outermost = new Float64Array(w.length); // (output channel, tap, channel) to (output channel, channel, tap)
  for (let m = 0; m < outChannels; m++)
    for (let t = 0; t < taps; t++)
      for (let c = 0; c < inChannels; c++) outermost[(m * inChannels + c) * taps + t] = w[(m * taps + t) * inChannels + c];
  return convolve(x, outermost, null, { ...kernel, batch: images, group: groups, layout: "NHWC" });
}

/** Gelu by tanh, and its slope by a difference. */
function geluAt(x: number): { value: number; slope: number } {
  const of = (v: number): number => (v / 2) * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (v + 0.044715 * v ** 3)));
  return { value: of(x), slope: (of(x + 1e-5) - of(x - 1e-5)) / 2e-5 };
}

/** Sums of bytes with their bias; times a factor: float32, or bytes. */
function runInt8Conv(kernel: LibraryConv, [x, w, bias, ...rest]: readonly Float64Array[]): void {
  const [factor, out] = rest.length === 2 ? rest : [null, rest[0]];
  const range = { i8: [-128, 127], u8: [0, 255] }[kernel.outType as "i8"];
  for (const [i, s] of convolution(kernel, [x, w]).entries()) {
    const channel = i % kernel.outChannels;
    const sum = s + bias[channel];
    const v = factor ? Math.fround(Math.fround(sum) * factor[channel]) : sum;
    out[i] = range ? Math.min(range[1], Math.max(range[0], roundEven(v))) : v;
  }
}

function runLibrary(kernel: LibraryConv | LibraryGemm, buffers: readonly Float64Array[]): void {
  if (kernel.library === "conv" && kernel.type === "i8") {
    runInt8Conv(kernel, buffers);
    return;
  }
  const [a, b, aScale, bScale] = buffers;
  const operands = kernel.type === "f8e4m3fn" ? [decoded(a, aScale), decoded(b, bScale)] : buffers;
  const sums = kernel.library === "gemm" ? product(kernel, operands) : convolution(kernel, operands);
  const { hasBias, hasAdded, isRelu, gelu } = kernel.tail;
  const channels = kernel.library === "gemm" ? kernel.n : kernel.outChannels;
  const [bias, added] = [hasBias ? buffers[2] : null, hasAdded ? buffers[buffers.length - 2] : null];
  const stored = gelu === "stored" || gelu === "slope" ? buffers[buffers.length - 2] : null;
  const out = buffers[buffers.length - 1];
  expect(out.length).toBe(sums.length);
  for (const [i, s] of sums.entries()) {
    const v = s + (bias ? bias[i % channels] : 0) + (added ? added[i] : 0);
    if (gelu === "stored") stored![i] = v;
    out[i] = gelu === "slope" ? v * geluAt(stored![i]).slope : gelu ? geluAt(v).value : isRelu ? Math.max(0, v) : v;
  }
}

const nameOf = (kernel: GpuKernel): string => {
  if (!isLibraryKernel(kernel)) return "ours";
  const { hasBias, hasAdded, isRelu, gelu } = kernel.tail;
  const parts = [
    kernel.library,
    kernel.roundsF32 && "tf32",
    kernel.type === "f8e4m3fn" && "f8",
    kernel.library === "conv" && kernel.type === "i8" && `i8 ${kernel.outType}`,
    hasBias && "bias",
    hasAdded && "added",
    isRelu && "relu",
    gelu && `gelu ${gelu}`,
  ];
  return parts.filter(Boolean).join(" ");
};

/** The kernels' names, and how far the result is from float64's, of the largest element. */
function run(
  graph: Graph,
  data: Readonly<Record<string, TensorData>>,
  precision: Precision = "bf16",
  dtype: DType = "f32",
): { names: string[]; error: number } {
  const want = toNumbers(evaluateGraph(graph, data).y);
  const schedule = scheduleGraph(graph, gpuBackend(target, 256, precision), { precision, storesNarrow: true });
  const buffer = memoryOf(data, graph.inputs, schedule.owners);
  const names: string[] = [];
  for (const { calls } of schedule.steps)
    for (const { kernel, places } of calls ?? []) {
      const buffers = places.map((place, i) => buffer(place, kernel.params[i]));
      names.push(nameOf(kernel));
      if (isLibraryKernel(kernel)) runLibrary(kernel, buffers);
      else runKernel(kernel, buffers, "late");
    }
  const got = buffer({ k: "value", value: schedule.outputs[0].value }, { dtype, elements: want.length });
  const largest = want.reduce((a, v) => Math.max(a, Math.abs(v)), 0);
  return { names, error: want.reduce((worst, v, i) => Math.max(worst, Math.abs(v - got[i])), 0) / largest };
}

const given = (shape: readonly number[]): { x: Value; data: Record<string, TensorData> } => ({
  x: input("in0", { dtype: "f32", shape }),
  data: { in0: fromNumbers("f32", shape, randomNumbers(1, elementCount(shape))) },
});

test("a bottleneck block is library calls with bias, sum and ReLU", () => {
  const { x, data } = given([1, 1024, 8, 8]);
  const first = relu(x);
  const inner = relu(conv(relu(conv(first, 256, 3, 1, 2)), 1024, 3, 1, 4));
  const y = op("GlobalAveragePool", [relu(op("Add", [conv(inner, 2048, 1, 1, 6), conv(first, 2048, 1, 1, 8)]))]);
  const { names, error } = run({ inputs: [x], outputs: [{ name: "y", value: y }] }, data);
  expect(names.filter((n) => n !== "ours").sort()).toEqual(["conv bias relu", "conv bias relu", "gemm bias", "gemm bias added relu"]);
  expect(error).toBeLessThan(2 ** -6); // some roundings to bf16 on the way
});

test("float32 goes to libraries where it may be rounded to tf32, in channels that matrix units take", () => {
  const { x, data } = given([1, 3, 256, 256]);
  const blocks: Graph = { inputs: [x], outputs: [{ name: "y", value: op("GlobalAveragePool", [conv(x, 64, 7, 2, 2)]) }] };
  const { names, error } = run(blocks, data, "tf32");
  expect(names).toContain("conv tf32 bias");
  expect(error).toBeLessThan(1e-5); // float64 stands for the library here
  const librariesOf = (y: Value, precision: Precision, on = target): string[] => {
    const { steps } = scheduleGraph({ inputs: [x], outputs: [{ name: "y", value: y }] }, gpuBackend(on, 256, precision), { precision });
    return steps.flatMap(({ calls }) => (calls ?? []).flatMap(({ kernel }) => (isLibraryKernel(kernel) ? [nameOf(kernel)] : [])));
  };
  expect(librariesOf(blocks.outputs[0].value, "f32")).toEqual([]);
  const odd = conv(conv(x, 514, 3, 1, 2), 512, 3, 1, 4); // 514 is no multiple of 4
  expect(librariesOf(odd, "tf32")).toEqual([]);
  expect(librariesOf(odd, "bf16")).toEqual(["conv bias", "conv"]); // the last bias is added where channels are put in front again, in float32
  const square = op("Reshape", [op("Slice", [x, ...[0, 1].map((at) => numbers64(at)), numbers64(1)]), numbers64(512, 128)]);
  expect(librariesOf(op("MatMul", [square, numbers([128, 2048], 1, 5)]), "tf32")).toEqual(["gemm tf32"]); // 2²⁸ operations
  expect(librariesOf(op("MatMul", [square, numbers([128, 2048], 1, 5)]), "f32")).toEqual([]);
  const [large, ragged] = [8192, 8194].map((columns) => op("MatMul", [square, numbers([128, columns], 1, 5)])); // 2³⁰ operations
  const onUnits: typeof target = { ...target, fragments: ["f16", "bf16", "f32"] };
  expect([large, ragged].map((y) => librariesOf(y, "f32"))).toEqual([["gemm"], ["gemm"]]);
  expect([large, ragged].map((y) => librariesOf(y, "f32", onUnits))).toEqual([[], ["gemm"]]); // ours, unrounded, on matrix units
});

test("bytes are multiplied by the library as integers, whatever their zero points", () => {
  const [m, k, n] = [32, 4096, 1024];
  const bytes = (dtype: "u8" | "i8", shape: readonly number[], middle: number, seed: number) =>
    fromNumbers(dtype, shape, randomNumbers(seed, elementCount(shape)).map((v) => Math.round(v * 127) + middle)); // biome-ignore format: one idea
  const scalar = (dtype: "u8" | "i8", value: number) => constantValue(fromNumbers(dtype, [], [value]));
  const multiplied = (from: "u8" | "i8", zeros: readonly Value[], weights: "u8" | "i8") => {
    const x = input("in0", { dtype: from, shape: [m, k] });
    const y = op("MatMulInteger", [x, constantValue(bytes(weights, [k, n], weights === "u8" ? 128 : 0, 2)), ...zeros]);
    return run({ inputs: [x], outputs: [{ name: "y", value: y }] }, { in0: bytes(from, [m, k], from === "u8" ? 128 : 0, 1) }, "f32");
  };
  expect(multiplied("u8", [scalar("u8", 120), scalar("u8", 128)], "u8")).toEqual({ names: ["ours", "gemm", "ours"], error: 0 });
  expect(multiplied("i8", [], "i8")).toEqual({ names: ["gemm"], error: 0 });
  expect(multiplied("u8", [], "i8")).toEqual({ names: ["ours", "gemm", "ours"], error: 0 });
});

describe("convolutions of bytes", () => {
  const [channels, outChannels, size] = [64, 64, 62];
  const bytes = (dtype: "u8" | "i8", shape: readonly number[], seed: number): TensorData =>
    fromNumbers(
      dtype,
      shape,
      randomNumbers(seed, elementCount(shape)).map((v) => Math.round((v * 0.5 + (dtype === "u8" ? 0.5 : 0)) * 255)),
    );
  const scalar = (dtype: "u8" | "i8" | "f32", value: number): Value => constantValue(fromNumbers(dtype, [], [value]));
  const list = (scale: number): Value => constantValue(fromNumbers("f32", [outChannels], Array.from({ length: outChannels }, (_, i) => scale * (1 + (i % 7))))); // biome-ignore format: short

  test.each([
    ["i8", 0, "i8", 0, "conv i8 i8 bias"],
    ["u8", 7, "u8", 0, "conv i8 u8 bias"],
    ["i8", 5, "i8", -3, "conv i8 f32 bias"],
  ] as const)("%s around %i to %s around %i are the same bytes", (from, xZero, to, yZero, name) => {
    const x = input("in0", { dtype: from, shape: [1, channels, size, size] });
    const data = { in0: bytes(from, x.type.shape, 1) };
    const w = constantValue(bytes("i8", [outChannels, channels, 3, 3], 2));
    const bias = constantValue(
      fromNumbers(
        "i32",
        [outChannels],
        Array.from({ length: outChannels }, (_, i) => 50 * i - 1000),
      ),
    );
    const y = op("QLinearConv", [x, scalar("f32", 0.02), scalar(from, xZero), w, list(0.001), scalar("i8", 0), scalar("f32", 0.31), scalar(to, yZero), bias], { pads: [1, 1, 1, 1], group: 1 }); // biome-ignore format: short
    const got = run({ inputs: [x], outputs: [{ name: "y", value: y }] }, data, "f32", to);
    expect(got.names.filter((n) => n !== "ours")).toEqual([name]);
    expect(got.error).toBe(0);
  });

  test("sums stay integers where a file wants them", () => {
    const x = input("in0", { dtype: "u8", shape: [1, channels, size, size] });
    const y = op("ConvInteger", [x, constantValue(bytes("i8", [outChannels, channels, 3, 3], 2)), scalar("u8", 100)], { pads: [1, 1, 1, 1], group: 1 }); // biome-ignore format: short
    const got = run({ inputs: [x], outputs: [{ name: "y", value: y }] }, { in0: bytes("u8", x.type.shape, 1) }, "f32", "i32");
    expect(got.error).toBe(0);
    expect(got.names).toContain("conv i8 i32 bias");
  });
});

describe("float8", () => {
  const [m, k, n] = [64, 1024, 2048];
  const scalar = (value: number, dtype: "f32" | "f8e4m3fn" = "f32"): Value => constantValue(fromNumbers(dtype, [], [value]));
  const quantized = (x: Value, scale: number): Value =>
    op("DequantizeLinear", [op("QuantizeLinear", [x, scalar(scale), scalar(0, "f8e4m3fn")]), scalar(scale)]);

  test("what a file dequantizes is multiplied by the library as it is, in any order of the weights' axes", () => {
    const { x, data } = given([m, k]);
    const product = op("MatMul", [quantized(x, 1 / 256), quantized(numbers([k, n], 1, 2), 1 / 300)]);
    const weights = quantized(numbers([n, k], 1, 2), 1 / 300);
    const turned = op("Gemm", [quantized(x, 1 / 256), weights, numbers([n], 1, 3)], { transB: 1 });
    const cases = [
      [product, ["ours", "gemm f8"]],
      [turned, ["ours", "gemm f8", "ours"]],
    ] as const;
    for (const [value, names] of cases) {
      const got = run({ inputs: [x], outputs: [{ name: "y", value }] }, data, "f32");
      expect(got.names).toEqual(names);
      expect(got.error).toBeLessThan(1e-6);
    }
  });

  test("other devices multiply the numbers", () => {
    const { x } = given([m, k]);
    const value = op("MatMul", [quantized(x, 1 / 256), quantized(numbers([k, n], 1, 2), 1 / 300)]);
    const { steps } = scheduleGraph({ inputs: [x], outputs: [{ name: "y", value }] }, gpuBackend(H200, 256));
    expect(steps.map(({ node }) => node.op.name)).not.toContain("Float8MatMul");
  });

  test("asked for as a precision: known weights, and what the device finds the scale of", () => {
    const [depth, columns] = [512, 4096];
    const { x, data } = given([m, depth]);
    const value = op("Relu", [op("MatMul", [x, numbers([depth, columns], 1 / Math.sqrt(depth), 2)])]);
    const got = run({ inputs: [x], outputs: [{ name: "y", value }] }, data, "f8");
    expect(got.names.filter((name) => name !== "ours")).toEqual(["gemm f8"]);
    expect(got.error).toBeGreaterThan(1e-3); // three bits of fraction
    expect(got.error).toBeLessThan(0.05); // two operands of three bits of fraction: 2.6 % each, by root mean square
  });
});

test("an image of three channels is convolved in blocks of its strides, and pooled", () => {
  const { x, data } = given([1, 3, 255, 256]);
  const y = op("MaxPool", [relu(conv(x, 64, 7, 2, 2))], { kernel_shape: [3, 3], strides: [2, 2], pads: [1, 1, 1, 1] });
  const { names, error } = run({ inputs: [x], outputs: [{ name: "y", value: op("Mul", [y, numbers([1], 2, 9)]) }] }, data);
  expect(names).toContain("conv bias relu");
  expect(error).toBeLessThan(2 ** -7);
});

describe("a product takes what follows it", () => {
  const [rows, depth, columns] = [256, 1024, 2048]; // 2³⁰ operations
  const tensors = { x: [rows, depth], bias: [columns], added: [rows, columns] } as const;
  const inputs = Object.entries(tensors).map(([, shape], i) => input(`in${i}`, { dtype: "f32", shape }));
  const data = Object.fromEntries(
    inputs.map((v, i) => [`in${i}`, fromNumbers("f32", v.type.shape, randomNumbers(i + 1, elementCount(v.type.shape)))]),
  );
  const [x, bias, added] = inputs;
  const weights = numbers([depth, columns], 1 / 16, 5);
  const libraryCalls = (y: Value): { names: string[]; error: number } => {
    const { names, error } = run({ inputs, outputs: [{ name: "y", value: y }] }, data);
    return { names: names.filter((n) => n !== "ours"), error };
  };
  const rounded = (v: Value): Value => op("Cast", [v], { to: 16 });
  const widened = (v: Value): Value => op("Cast", [v], { to: 1 });
  const sums = op("Add", [op("MatMul", [x, weights]), bias]);

  test("a learned bias and a tensor", () => {
    const { names, error } = libraryCalls(op("Add", [added, sums]));
    expect(names).toEqual(["gemm bias added"]);
    expect(error).toBeLessThan(2 ** -7);
  });
  test("a learned bias in 16 bits, ReLU, Gelu by tanh", () => {
    for (const [name, y] of [
      ["gemm bias relu", relu(sums)],
      ["gemm bias gelu value", op("Gelu", [sums], { approximate: "tanh" })],
    ] as const) {
      const { names, error } = libraryCalls(widened(rounded(y)));
      expect(names).toEqual([name]);
      expect(error).toBeLessThan(2 ** -6);
    }
  });
  test("Gelu by erf stays a kernel of its own", () => {
    const graph: Graph = { inputs, outputs: [{ name: "y", value: rounded(op("Gelu", [sums])) }] };
    const { steps } = scheduleGraph(graph, gpuBackend(target, 256, "bf16"), { precision: "bf16" });
    expect(steps.flatMap(({ calls }) => (calls ?? []).map(({ kernel }) => nameOf(kernel))).filter((n) => n !== "ours")).toEqual(["gemm"]);
  });
  test("Gelu that is trained: its sums are stored in 16 bits, its slope is the next product's", () => {
    const gradient = op("GeluGrad", [sums, op("MatMul", [x, numbers([depth, columns], 1 / 16, 7)])]);
    const value = op("Gelu", [sums], { approximate: "tanh" });
    const { names, error } = libraryCalls(op("Add", [widened(rounded(value)), widened(rounded(gradient))]));
    expect(names).toEqual(["gemm bias gelu stored", "gemm gelu slope"]);
    expect(error).toBeLessThan(2 ** -6);
  });
});
