// Times our convolution kernels on a GPU, forward and both gradients, and forward what the device's libraries do, by replayed programs; says how far sampled elements are from float64.
// Options: --device cuda|webgpu, --dtype f32,bf16,f16, --layers NxHxWxC:MxKxK/S,… (images of HxW with C channels, M filters of KxK, stride S), --repeat N, --json.
import { parseArgs } from "node:util";
import { randomNumbers } from "../../src/cli/random.ts";
import { formatTable } from "../../src/cli/table.ts";
import { short } from "../../src/cli/units.ts";
import type { GpuDevice } from "../../src/devices/gpu.ts";
import { isGpu, openAnyDevice } from "../../src/devices/open.ts";
import type { DType } from "../../src/ir/dtype.ts";
import { HeddleError } from "../../src/ir/error.ts";
import { apply } from "../../src/ir/graph.ts";
import { elementCount, fromNumbers, type TensorData, toNumbers } from "../../src/ir/tensor.ts";
import { OPS } from "../../src/ops/index.ts";
import { input } from "../../src/ops/source.ts";
import { compileForGpu } from "../../src/run/gpu/program.ts";

const { values: options } = parseArgs({
  options: {
    device: { type: "string", default: "cuda" },
    dtype: { type: "string", default: "bf16,f32" },
    layers: {
      type: "string",
      default:
        "32x56x56x64:64x3x3/1,32x56x56x256:64x1x1/1,32x28x28x128:128x3x3/1,32x14x14x256:256x3x3/1,32x14x14x256:1024x1x1/1,32x7x7x512:512x3x3/1,32x56x56x128:128x3x3/2,1x14x14x256:256x3x3/1",
    },
    repeat: { type: "string", default: "10" },
    json: { type: "boolean", default: false },
  },
});

interface Layer {
  readonly name: string;
  readonly x: readonly [n: number, h: number, w: number, c: number];
  readonly filters: number;
  readonly kernel: number;
  readonly stride: number;
}

interface Row {
  readonly layer: string;
  readonly dtype: DType;
  readonly what: string;
  readonly ms: number;
  readonly tflops: number;
  readonly error: number;
  readonly kernels: readonly string[];
}

function parseLayer(name: string): Layer {
  const numbers = /^(\d+)x(\d+)x(\d+)x(\d+):(\d+)x(\d+)x\d+\/(\d+)$/.exec(name)?.slice(1).map(Number);
  if (!numbers) throw new HeddleError("bad-argument", `bench: --layers has ${name}, wanted NxHxWxC:MxKxK/S`);
  const [n, h, w, c, filters, kernel, stride] = numbers;
  return { name, x: [n, h, w, c], filters, kernel, stride };
}

const random = (dtype: DType, shape: readonly number[], seed: number): TensorData => {
  const next = randomNumbers(seed);
  return fromNumbers(
    dtype,
    shape,
    Float64Array.from({ length: elementCount(shape) }, () => next() * 2 - 1),
  );
};

type Picture = (n: number, y: number, x: number, c: number) => number;
const picture = ({ data, dtype, shape }: TensorData): Picture => {
  const values = toNumbers({ data, dtype, shape });
  const [, h, w, channels] = shape;
  return (n, y, x, c) => (y < 0 || x < 0 || y >= h || x >= w ? 0 : values[((n * h + y) * w + x) * channels + c]);
};

/** Element `at` of what is computed, in float64. */
function elementOf(what: string, layer: Layer, out: readonly number[], given: readonly TensorData[]): (at: number) => number {
  const { kernel, stride, filters, x } = layer;
  const pad = (kernel - 1) / 2;
  const channels = x[3];
  const place = (at: number): number[] => out.reduceRight<[number[], number]>(([all, rest], d) => [[rest % d, ...all], Math.floor(rest / d)], [[], at])[0]; // biome-ignore format: short
  const taps = Array.from({ length: kernel * kernel }, (_, t) => [Math.floor(t / kernel), t % kernel] as const);
  if (what === "weights") {
    const [image, grad] = given.map(picture);
    const [, h, w] = given[1].shape;
    return (at) => {
      const [m, c, ky, kx] = place(at);
      let sum = 0;
      for (let n = 0; n < x[0]; n++)
        for (let y = 0; y < h; y++)
          for (let z = 0; z < w; z++) sum += image(n, y * stride + ky - pad, z * stride + kx - pad, c) * grad(n, y, z, m);
      return sum;
    };
  }
  const image = picture(given[0]);
  const weights = toNumbers(given[1]);
  const weight = (m: number, c: number, t: number): number => weights[(m * channels + c) * taps.length + t];
  if (what === "forward")
    return (at) => {
      const [n, y, z, m] = place(at);
      let sum = 0;
      for (const [t, [ky, kx]] of taps.entries())
        for (let c = 0; c < channels; c++) sum += image(n, y * stride + ky - pad, z * stride + kx - pad, c) * weight(m, c, t);
      return sum;
    };
  return (at) => {
    const [n, y, z, c] = place(at);
    let sum = 0;
    for (const [t, [ky, kx]] of taps.entries()) {
      const [v, u] = [y + pad - ky, z + pad - kx];
      if (v % stride === 0 && u % stride === 0)
        for (let m = 0; m < filters; m++) sum += image(n, v / stride, u / stride, m) * weight(m, c, t);
    }
    return sum;
  };
}

const device = await openAnyDevice({ device: options.device as "cuda" }); // wrong names are openAnyDevice's to refuse
if (!isGpu(device)) throw new HeddleError("bad-argument", `bench: --device is ${options.device}, wanted cuda or webgpu`);

/** The device without its libraries. */
const bare = Object.create(device, { target: { value: { ...device.target, hasGemm: false, hasConvolutions: false } } }) as GpuDevice;
const gpu: GpuDevice = device;
const hasLibraries = device.target.hasConvolutions === true;

async function measure(layer: Layer, dtype: DType, what: string, isByLibrary: boolean): Promise<Row> {
  const { x, filters, kernel, stride } = layer;
  const pad = (kernel - 1) / 2;
  const [h, w] = [x[1], x[2]].map((d) => Math.floor((d + 2 * pad - kernel) / stride) + 1);
  const y = [x[0], h, w, filters];
  const weights = [filters, x[3], kernel, kernel];
  const attrs = { layout: "NHWC", strides: [stride, stride], pads: [pad, pad, pad, pad], kernel_shape: [kernel, kernel] };
  const rest = [x[1], x[2]].map((d, i) => d - ((i === 0 ? h : w) - 1) * stride - kernel + 2 * pad);
  const [name, shapes, own] = (
    {
      forward: ["Conv", [x, weights], {}],
      data: ["ConvTranspose", [y, weights], { output_padding: rest }],
      weights: ["ConvWeightGrad", [x, y], {}],
    } as Record<string, [string, (readonly number[])[], object]>
  )[what];
  const tensors = shapes.map((shape, i) => random(dtype, shape, i + 1));
  const inputs = shapes.map((shape, i) => input(`in${i}`, { dtype, shape }));
  const [value] = apply(OPS.get(name)!, inputs, { ...attrs, ...own }, name); // ONNX's and our own
  const program = await compileForGpu({ inputs, outputs: [{ name: "y", value }] }, { device: isByLibrary ? gpu : bare });
  try {
    const given = { in0: tensors[0], in1: tensors[1] };
    const out = (await program.run(given)).y;
    const repeat = Number(options.repeat);
    await program.replay(3);
    let ms = Number.POSITIVE_INFINITY;
    for (let i = 0; i < 3; i++) {
      const start = performance.now();
      await program.replay(repeat);
      ms = Math.min(ms, (performance.now() - start) / repeat);
    }
    const got = toNumbers(out);
    const element = elementOf(what, layer, out.shape, tensors);
    const samples = Array.from({ length: what === "weights" ? 16 : 64 }, (_, i) => (i * 7919 * 31) % got.length);
    const want = samples.map(element);
    const largest = Math.max(...want.map(Math.abs));
    const error = Math.max(...samples.map((at, i) => Math.abs(got[at] - want[i]) / largest));
    const tflops = (2 * elementCount(y) * x[3] * kernel * kernel) / ms / 1e9;
    return { layer: layer.name, dtype, what: isByLibrary ? `${what}, libraries` : what, ms, tflops, error, kernels: program.kernels().map(({ kernel: k }) => ("library" in k ? `${k.name} (${k.library} of a library)` : k.name)) }; // biome-ignore format: one idea
  } finally {
    program.free();
  }
}

const rows: Row[] = [];
for (const layer of options.layers.split(",").map(parseLayer))
  for (const dtype of options.dtype.split(",") as DType[])
    for (const what of ["forward", "data", "weights"])
      for (const isByLibrary of what === "forward" && hasLibraries ? [false, true] : [false])
        rows.push(await measure(layer, dtype, what, isByLibrary));
if (options.json) process.stdout.write(`${JSON.stringify({ device: device.description, rows }, null, 1)}\n`);
else {
  const cells = rows.map((r) => [
    r.layer,
    r.dtype,
    r.what,
    r.ms.toFixed(4),
    short(r.tflops),
    r.error.toExponential(1),
    r.kernels.join(" "),
  ]);
  const table = formatTable(["layer", "type", "what", "ms", "TFLOP/s", "error", "kernels"], cells, { left: [0, 1, 2, 6] });
  process.stdout.write(`${device.description}\n\n${table}\n`);
}
await device.close();
