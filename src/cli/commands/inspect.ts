// heddle inspect: what a model is made of, and what it becomes on its way to machine code.

import { importGraph } from "../../formats/onnx/import.ts";
import type { OnnxModel } from "../../formats/onnx/read.ts";
import { DTYPES, type DType } from "../../ir/dtype.ts";
import { HeddleError } from "../../ir/error.ts";
import { type Graph, type Node, topologicalOrder, type Value } from "../../ir/graph.ts";
import { printGraph, printNode } from "../../ir/print.ts";
import { printKernel } from "../../ir/print_kernel.ts";
import { type AnyProgram, type LoadOptions, type Model, readModel } from "../../model.ts";
import { constantOf } from "../../ops/source.ts";
import { flopsOf } from "../../run/cost.ts";
import { describeNode } from "../../run/describe.ts";
import { GpuProgram } from "../../run/gpu/program.ts";
import { attentionRows, attentionText } from "../attention_table.ts";
import { type Command, type Invocation, type Outcome, UsageError } from "../command.ts";
import { layoutOutcome, watchLayout } from "../layout_table.ts";
import { deviceName, deviceText, modelPath, withModel } from "../open_model.ts";
import { choiceOption, loadOptions, namedShapes, shapeTexts, textOption } from "../options.ts";
import { sparseRows, sparseText } from "../sparse_table.ts";
import { formatPairs, formatTable } from "../table.ts";
import { bytesText, countText, percentText, typeText } from "../units.ts";

const STAGES = ["graph", "layout", "fused", "lowered", "asm", "wgsl", "cuda", "ptx"] as const;
type CompiledStage = Exclude<(typeof STAGES)[number], "graph">;
/** Stages that only kernels for one kind of GPU have. */
const GPU_STAGES: Readonly<Partial<Record<CompiledStage, "webgpu" | "cuda">>> = { wgsl: "webgpu", cuda: "cuda", ptx: "cuda" };

export const inspect: Command = async (invocation) => {
  const path = modelPath(invocation);
  const stage = choiceOption(invocation.options, "stage", STAGES);
  if (stage !== undefined && stage !== "graph") return inspectCompiled(invocation, path, stage);
  return inspectModel(invocation, path, stage === "graph");
};

/** What needs no device, and where all shapes are known the whole summary. */
async function inspectModel(invocation: Invocation, path: string, isGraph: boolean): Promise<Outcome> {
  const onnx = await (await readModel(path, { cache: false })).onnx();
  const texts = shapeTexts(invocation.options);
  const isOpen = onnx.inputs.some((i) => !i.shape?.every((d) => typeof d === "number"));
  if (isGraph) return graphOutcome(importGraph(onnx, namedShapes(texts, onnx.inputs)), textOption(invocation.options, "node"));
  if (isOpen && texts.length === 0) return staticSummary(path, onnx);
  return withModel(invocation, path, loadOptions(invocation.options), async ({ model, shapes }) =>
    summary(path, model, onnx, importGraph(onnx, shapes), await model.program(shapes)),
  );
}

const opsetsOf = ({ opsets }: OnnxModel): Record<string, number> =>
  Object.fromEntries([...opsets].map(([domain, version]) => [domain || "ai.onnx", version]));

/** Operators as the file has them: shapes are open, so that nothing more is known. */
function staticSummary(path: string, model: OnnxModel): Outcome {
  const counts = new Map<string, number>();
  for (const { opType } of model.graph.node) counts.set(opType, (counts.get(opType) ?? 0) + 1);
  const operators = [...counts].sort((a, b) => b[1] - a[1]).map(([operator, count]) => ({ operator, count }));
  const open = model.inputs.find((i) => !i.shape?.every((d) => typeof d === "number"));
  const note = `shapes are open: give --shape ${open?.name}=… for FLOPs, memory and kernels`;
  return {
    json: { model: path, inputs: model.inputs, outputs: model.outputs, opsets: opsetsOf(model), operators, note },
    text: () =>
      [
        formatPairs(headPairs(path, model)),
        formatTable(
          ["operator", "count"],
          operators.map((o) => [o.operator, String(o.count)]),
        ),
        note,
      ].join("\n\n"),
  };
}

const headPairs = (path: string, model: OnnxModel): [string, string][] => [
  ["model", path],
  ...model.inputs.map((i): [string, string] => ["input", `${i.name}: ${typeText(i)}`]),
  ...model.outputs.map((o): [string, string] => ["output", `${o.name}: ${typeText(o)}`]),
  [
    "opset",
    Object.entries(opsetsOf(model))
      .map(([domain, version]) => `${domain} ${version}`)
      .join(", "),
  ],
];

interface OperatorRow {
  readonly operator: string;
  readonly count: number;
  readonly flops: number;
  readonly share: number;
}

function operatorRows(graph: Graph): OperatorRow[] {
  const rows = new Map<string, { count: number; flops: number }>();
  let total = 0;
  for (const node of topologicalOrder(graph)) {
    if (node.op.kind === "source") continue;
    const row = rows.get(node.op.name) ?? { count: 0, flops: 0 };
    const flops = flopsOf(node);
    rows.set(node.op.name, { count: row.count + 1, flops: row.flops + flops });
    total += flops;
  }
  return [...rows]
    .map(([operator, { count, flops }]) => ({ operator, count, flops, share: total > 0 ? flops / total : 0 }))
    .sort((a, b) => b.flops - a.flops || b.count - a.count);
}

/** Floating-point constants, by type. */
function parametersOf(graph: Graph): { count: number; bytes: number; types: Partial<Record<DType, number>> } {
  const types: Partial<Record<DType, number>> = {};
  let [count, bytes] = [0, 0];
  for (const node of topologicalOrder(graph)) {
    const tensor = constantOf(node.outputs[0]);
    if (!tensor || DTYPES[tensor.dtype].kind !== "float") continue;
    count += tensor.data.length;
    bytes += tensor.data.byteLength;
    types[tensor.dtype] = (types[tensor.dtype] ?? 0) + tensor.data.length;
  }
  return { count, bytes, types };
}

const outputTypes = (graph: Graph) => graph.outputs.map(({ name, value }) => ({ name, dtype: value.type.dtype, shape: value.type.shape }));
const inputTypes = (graph: Graph, model: Model) =>
  graph.inputs.map((v: Value, i) => ({ name: model.inputs[i].name, dtype: v.type.dtype, shape: v.type.shape }));

const notEmpty = (lists: Readonly<Record<string, readonly object[]>>) =>
  Object.fromEntries(Object.entries(lists).filter(([, list]) => list.length > 0));

function summary(path: string, model: Model, onnx: OnnxModel, graph: Graph, program: AnyProgram): Outcome {
  const operators = operatorRows(graph);
  const parameters = parametersOf(graph);
  const { schedule } = program;
  const flops = operators.reduce((sum, o) => sum + o.flops, 0);
  const sparse = sparseRows(program);
  const attention = attentionRows(program);
  const memory = { arenaBytes: program.arenaBytes, tensorBytes: schedule.tensorBytes };
  const steps = { kernels: program.kernels().length, host: schedule.steps.filter((s) => !s.calls).length, codeBytes: program.codeBytes };
  const json = {
    ...{
      model: path,
      inputs: inputTypes(graph, model),
      outputs: outputTypes(graph),
      opsets: opsetsOf(onnx),
      device: deviceName(model),
    },
    ...{ threads: model.threads, flops, operators, parameters, memory, ...steps, ...notEmpty({ attention, sparse }) },
  };
  const pairs: [string, string][] = [
    ["model", path],
    ...json.inputs.map((i): [string, string] => ["input", `${i.name}: ${typeText(i)}`]),
    ...json.outputs.map((o): [string, string] => ["output", `${o.name}: ${typeText(o)}`]),
    [
      "opset",
      Object.entries(json.opsets)
        .map(([domain, version]) => `${domain} ${version}`)
        .join(", "),
    ],
    ["parameters", `${countText(parameters.count)} (${bytesText(parameters.bytes)})`],
    ["operations", `${countText(flops)}FLOP`],
    ["device", `${deviceText(json.device, json.threads)}`],
    ["kernels", `${steps.kernels}${steps.host > 0 ? ` and ${steps.host} nodes in JavaScript` : ""}, ${bytesText(steps.codeBytes)} of code`],
    ["memory", `${bytesText(memory.arenaBytes)} for tensors of ${bytesText(memory.tensorBytes)}`],
  ];
  const table = () =>
    formatTable(
      ["operator", "count", "FLOP", "share"],
      operators.map((o) => [o.operator, String(o.count), countText(o.flops), percentText(o.share)]),
    );
  return { json, text: () => [`${formatPairs(pairs)}\n\n${table()}`, ...attentionText(attention), ...sparseText(sparse)].join("\n") };
}

const matches = (node: Node, wanted: string | undefined): boolean => {
  if (wanted === undefined) return true;
  const { name, operator } = describeNode(node);
  return name.includes(wanted) || operator.includes(wanted);
};

function nothingFound(wanted: string | undefined): never {
  throw new HeddleError("bad-input", `--node: no node's name or operator contains ${wanted}`);
}

/** The whole graph as text that can be parsed; single nodes otherwise. */
function graphOutcome(graph: Graph, wanted: string | undefined): Outcome {
  if (wanted === undefined) return { json: { graph: printGraph(graph) }, text: () => printGraph(graph) };
  const nodes = topologicalOrder(graph).filter((node) => node.op.kind !== "source" && matches(node, wanted));
  if (nodes.length === 0) nothingFound(wanted);
  const lines = nodes.map((node) => printNode(node));
  return { json: { nodes: lines }, text: () => lines.join("\n") };
}

/** The device that the command line says, or that the stage is for. */
function deviceFor(invocation: Invocation, stage: CompiledStage): LoadOptions {
  const given = loadOptions(invocation.options);
  const wanted = GPU_STAGES[stage];
  if (!wanted) return given;
  if (given.device !== undefined && !given.device.startsWith(wanted))
    throw new UsageError(`--stage ${stage}: device ${given.device} has no such kernels; use --device ${wanted}`);
  return { ...given, device: given.device ?? wanted };
}

function inspectCompiled(invocation: Invocation, path: string, stage: CompiledStage): Promise<Outcome> {
  const wanted = textOption(invocation.options, "node");
  const watch = stage === "layout" ? watchLayout() : undefined;
  return withModel(invocation, path, { ...deviceFor(invocation, stage), onPass: watch?.onPass }, async ({ model, shapes }) => {
    const program = await model.program(shapes);
    if (watch) return layoutOutcome(program, watch.before());
    if (stage === "fused") return graphOutcome(program.schedule.graph, wanted);
    const listed = await listKernels(program, stage, wanted);
    if (listed.length === 0) nothingFound(wanted);
    const comment = stage === "asm" && !(program instanceof GpuProgram) ? "#" : "//";
    const text = () => listed.map((k) => `${comment} ${k.kernel}: ${k.operator} ${k.node}\n${k.text}`).join("\n");
    return { json: { stage, device: deviceName(model), kernels: listed }, text };
  });
}

/** Kernels as the stage shows them: of a GPU the lowered form is its language. */
function listKernels(program: AnyProgram, stage: CompiledStage, wanted: string | undefined): Promise<Listed[]> {
  const isCode = stage === "asm" || stage === "ptx";
  if (program instanceof GpuProgram) return listed(program.kernels(), wanted, (k) => (isCode ? program.disassemble(k) : program.print(k)));
  return listed(program.kernels(), wanted, (k) => (isCode ? program.disassemble(k) : printKernel(k)));
}

interface Listed {
  readonly kernel: string;
  readonly node: string;
  readonly operator: string;
  readonly text: string;
}

async function listed<K extends { readonly name: string }>(
  kernels: readonly { readonly step: { readonly node: Node }; readonly kernel: K }[],
  wanted: string | undefined,
  textOf: (kernel: K) => string | Promise<string>,
): Promise<Listed[]> {
  const found = kernels.filter(({ step, kernel }) => matches(step.node, wanted) || kernel.name.includes(wanted ?? ""));
  const list: Listed[] = [];
  for (const { step, kernel } of found) {
    const { name, operator } = describeNode(step.node);
    list.push({ kernel: kernel.name, node: name, operator, text: await textOf(kernel) });
  }
  return list;
}
