// Work along lines on a GPU: softmax, normalisation, sums, running sums, sorts, the largest of many; steps of LSTM; transposed convolutions.
// Options: --device cuda|webgpu, --only TEXT (of the name), --json. On WebGPU lines are also timed as if there were no subgroups.
import { parseArgs } from "node:util";
import { randomInputs } from "../../src/cli/random.ts";
import { rounded } from "../../src/cli/statistics.ts";
import { formatTable } from "../../src/cli/table.ts";
import { short } from "../../src/cli/units.ts";
import type { GpuDevice } from "../../src/devices/gpu.ts";
import { isGpu, openAnyDevice } from "../../src/devices/open.ts";
import { type Attrs, apply, type Graph, type Value } from "../../src/ir/graph.ts";
import { elementCount, fromNumbers, type Shape } from "../../src/ir/tensor.ts";
import { OPS } from "../../src/ops/index.ts";
import { constantValue, input, inputName } from "../../src/ops/source.ts";
import { compileForGpu } from "../../src/run/gpu/program.ts";
import { replayMs } from "./launches.ts";

const { values: options } = parseArgs({
  options: {
    device: { type: "string", default: "cuda" },
    only: { type: "string", default: "" },
    json: { type: "boolean", default: false },
  },
});

interface Work {
  readonly name: string;
  readonly op: string;
  /** Shapes of inputs, and then a constant list of whole numbers: k, axes. */
  readonly shapes: readonly Shape[];
  readonly given?: readonly number[];
  readonly attrs?: Attrs;
}

const ints = (values: readonly number[], shape: Shape = [values.length]): Value => constantValue(fromNumbers("i64", shape, [...values]));

const WORKS: readonly Work[] = [
  { name: "softmax 8192×1024", op: "Softmax", shapes: [[8192, 1024]] },
  { name: "softmax 64×50257", op: "Softmax", shapes: [[64, 50257]] },
  { name: "layer normalisation 8192×768", op: "LayerNormalization", shapes: [[8192, 768], [768], [768]] },
  { name: "sums 4096×1024", op: "ReduceSum", shapes: [[4096, 1024]], given: [1] },
  { name: "sums 64×65536", op: "ReduceSum", shapes: [[64, 65536]], given: [1] },
  { name: "running sums 4096×4096", op: "CumSum", shapes: [[4096, 4096]], given: [1] },
  { name: "running sums 1×16777216", op: "CumSum", shapes: [[1, 1 << 24]], given: [1] },
  { name: "sort 4096×2048", op: "TopK", shapes: [[4096, 2048]], given: [2048] },
  { name: "sort 1×1048576", op: "TopK", shapes: [[1, 1 << 20]], given: [1 << 20] },
  { name: "largest 50 of 64×50257", op: "TopK", shapes: [[64, 50257]], given: [50] },
  {
    name: "scattered 64×4096 into 64×4096",
    op: "ScatterElements",
    shapes: [
      [64, 4096],
      [64, 4096],
      [64, 4096],
    ],
    attrs: { axis: 1 },
  },
  ...["LSTM", "LSTMLoop"].map((op) => ({
    name: `${op === "LSTM" ? "LSTM, each step by itself" : "LSTM in one kernel"}, 200 steps of 4×64 to 128 units`,
    op,
    shapes: [
      [200, 4, 64],
      [1, 512, 64],
      [1, 512, 128],
    ],
  })),
  {
    name: "LSTM in one kernel, 2000 steps of 1×64 to 128 units",
    op: "LSTM",
    shapes: [
      [2000, 1, 64],
      [1, 512, 64],
      [1, 512, 128],
    ],
  },
  ...[1, 8].map((batch) => ({
    name: `transposed convolution 4×4, strides 2, ${batch}×128×64×64 to 64 channels`,
    op: "ConvTranspose",
    shapes: [
      [batch, 128, 64, 64],
      [128, 64, 4, 4],
    ],
    attrs: { strides: [2, 2], pads: [1, 1, 1, 1] },
  })),
  {
    name: "transposed convolution 3×3, strides 2, 1×256×32×32 to 128 channels",
    op: "ConvTranspose",
    shapes: [
      [1, 256, 32, 32],
      [256, 128, 3, 3],
    ],
    attrs: { strides: [2, 2], pads: [1, 1, 1, 1], output_padding: [1, 1] },
  },
];

function graphOf({ op, shapes, given, attrs = {} }: Work): Graph {
  const inputs = shapes.map((shape, i) => input(`in${i}`, { dtype: op === "ScatterElements" && i === 1 ? "i64" : "f32", shape }));
  const constant = given && ints(given, op === "CumSum" ? [] : [given.length]);
  const values = apply(OPS.get(op)!, [...inputs, ...(constant ? [constant] : [])], attrs, op); // an operator of ONNX
  return { inputs, outputs: values.map((value, i) => ({ name: `y${i}`, value })) };
}

/** The same GPU as if it had no subgroups. */
const withoutSubgroups = (device: GpuDevice): GpuDevice =>
  Object.create(device, { target: { value: { ...device.target, subgroup: 0 } } }) as GpuDevice; // but for its target the same

interface Row {
  readonly work: string;
  readonly by: string;
  readonly ms: number;
  readonly launches: number;
  /** Of what is read and written at least. */
  readonly gbs: number;
}

async function measure(work: Work, device: GpuDevice, by: string): Promise<Row> {
  const graph = graphOf(work);
  const program = await compileForGpu(graph, { device });
  try {
    await program.run(randomInputs(graph.inputs.map((v) => ({ name: inputName(v), ...v.type })), 1)); // biome-ignore format: one idea
    const ms = await replayMs(program);
    const bytes = [...graph.inputs, ...graph.outputs.map((o) => o.value)].reduce((n, { type }) => n + elementCount(type.shape) * (device.target.storedBytes[type.dtype] ?? 0), 0); // biome-ignore format: one idea
    const launches = program.schedule.steps.reduce((n, { calls }) => n + (calls ? calls.length : Number.NaN), 0);
    return { work: work.name, by, ms: rounded(ms), launches, gbs: rounded(bytes / ms / 1e6) };
  } finally {
    program.free();
  }
}

const device = await openAnyDevice({ device: options.device as "cuda" }); // wrong names are openAnyDevice's to refuse
if (!isGpu(device)) throw new Error(`${options.device} is no GPU`);
const rows: Row[] = [];
for (const work of WORKS.filter(({ name }) => name.includes(options.only))) {
  rows.push(await measure(work, device, device.name));
  if (device.name === "webgpu" && device.target.subgroup > 0)
    rows.push(await measure(work, withoutSubgroups(device), "webgpu, no subgroups"));
  const { by, ms } = rows[rows.length - 1];
  process.stderr.write(`${work.name} ${by}: ${short(ms)} ms\n`);
}
if (options.json) process.stdout.write(`${JSON.stringify({ gpu: device.description, rows }, null, 1)}\n`);
else {
  const cells = rows.map((r) => [r.work, r.by, short(r.ms), String(r.launches), short(r.gbs)]);
  process.stdout.write(`${device.description}\n\n${formatTable(["work", "by", "ms", "launches", "GB/s"], cells, { left: [0, 1] })}\n`);
}
await device.close();
