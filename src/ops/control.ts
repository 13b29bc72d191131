// Control flow whose course is known when compiling: If takes one branch, Loop and Scan are unrolled.
import { HeddleError } from "../ir/error.ts";
import { type AttrSpec, type Builder, defineOp, type ImportContext, type Op, type Value } from "../ir/graph.ts";
import { toNumbers } from "../ir/tensor.ts";
import { importBuilder } from "./build.ts";
import { normalizeAxis } from "./define.ts";
import { constantOf } from "./source.ts";

/** Longer loops would make graphs too large. */
const MAX_ITERATIONS = 1000;

/** A control operator lives only while importing: it never becomes a node. */
const importOnly = (
  name: string,
  attrs: Readonly<Record<string, AttrSpec>>,
  importOnnx: (context: ImportContext) => readonly Value[],
): Op =>
  defineOp<object>({
    name,
    kind: "opaque",
    attrs,
    infer() {
      throw new HeddleError("unsupported", `${name}: it can only be imported from ONNX, with its sub-graphs`);
    },
    importOnnx,
  });

/** First number of a value known when compiling. */
function knownNumber(op: string, value: Value, what: string): number {
  const tensor = constantOf(value);
  if (!tensor)
    throw new HeddleError(
      "dynamic",
      `${op}: ${what} is computed from data at run time; heddle compiles a fixed sequence of operators: make it a constant`,
    );
  return toNumbers(tensor)[0];
}

function present(op: string, value: Value | null | undefined, i: number): Value {
  if (!value) throw new HeddleError("bad-model", `${op}: input ${i} is missing`);
  return value;
}

function importIf({ inputs, inline }: ImportContext): readonly Value[] {
  const condition = knownNumber("If", present("If", inputs[0], 0), "the condition");
  return inline(condition !== 0 ? "then_branch" : "else_branch");
}

/** Values of one output over all iterations, along a new axis. */
function stacked(build: Builder, values: readonly Value[], axis: number): Value {
  const at = normalizeAxis("Concat", axis, values[0].type.shape.length + 1);
  const parts = values.map((v) => build.op("Unsqueeze", [v, build.ints(at)]));
  return parts.length === 1 ? parts[0] : build.op("Concat", parts, { axis: at });
}

/** The body gets iteration, condition and the carried values, and gives a condition, the carried values and the scanned ones. */
function importLoop(context: ImportContext): readonly Value[] {
  const build = importBuilder(context);
  const [limit, condition, ...initial] = context.inputs;
  const trips = limit ? knownNumber("Loop", limit, "the trip count") : Number.POSITIVE_INFINITY;
  let carried = initial.map((v, i) => present("Loop", v, i + 2));
  let goesOn = condition ? knownNumber("Loop", condition, "the condition") !== 0 : true;
  const scanned: (readonly Value[])[] = [];
  for (let i = 0; goesOn && i < trips; i++) {
    if (i >= MAX_ITERATIONS) throw new HeddleError("unsupported", `Loop: it runs more than ${MAX_ITERATIONS} times; heddle unrolls loops`);
    const outputs = context.inline("body", [build.constant("i64", i), build.constant("bool", 1), ...carried]);
    if (outputs.length < 1 + carried.length)
      throw new HeddleError("bad-model", `Loop: the body gives ${outputs.length} values, wanted at least ${1 + carried.length}`);
    scanned.push(outputs.slice(1 + carried.length));
    carried = outputs.slice(1, 1 + carried.length);
    const isEnd = i + 1 >= trips; // the last condition does not matter
    goesOn = isEnd || knownNumber("Loop", outputs[0], "the condition after an iteration") !== 0;
  }
  const scans = Math.max(0, context.outputCount - carried.length);
  if (scanned.some((s) => s.length < scans))
    throw new HeddleError("bad-model", `Loop: the body gives too few values for ${context.outputCount} outputs`);
  if (scans > 0 && scanned.length === 0)
    throw new HeddleError("unsupported", "Loop: it runs zero times, so the shape of what it collects is not known");
  return [
    ...carried,
    ...Array.from({ length: scans }, (_, k) =>
      stacked(
        build,
        scanned.map((s) => s[k]),
        0,
      ),
    ),
  ];
}

interface ScanAttrs {
  readonly count: number;
  readonly inputAxes: readonly number[];
  readonly inputDirections: readonly number[];
  readonly outputAxes: readonly number[];
  readonly outputDirections: readonly number[];
}

function scanAttrs({ attrs, opset }: ImportContext): ScanAttrs {
  const list = (name: string) => (attrs[name] as readonly number[] | undefined) ?? []; // ints by the table below
  return {
    count: Number(attrs.num_scan_inputs),
    inputAxes: list("scan_input_axes"),
    inputDirections: list(opset < 9 ? "directions" : "scan_input_directions"),
    outputAxes: list("scan_output_axes"),
    outputDirections: list("scan_output_directions"),
  };
}

/** One slice of an axis, which disappears. */
const slice = (build: Builder, x: Value, axis: number, at: number): Value => build.op("Gather", [x, build.constant("i64", at)], { axis });

/** Runs the body once for each slice of the scanned inputs. */
function unrollScan(context: ImportContext, states: readonly Value[], scanned: readonly Value[], attrs: ScanAttrs): Value[] {
  const build = importBuilder(context);
  const axes = scanned.map((v, i) => normalizeAxis("Scan", attrs.inputAxes[i] ?? 0, v.type.shape.length));
  const lengths = scanned.map((v, i) => v.type.shape[axes[i]]);
  const [steps] = lengths;
  if (steps === undefined || lengths.some((n) => n !== steps))
    throw new HeddleError("bad-model", `Scan: the scanned inputs have ${lengths.join(", ") || "no"} slices, wanted the same of each`);
  if (steps === 0 || steps > MAX_ITERATIONS)
    throw new HeddleError("unsupported", `Scan: ${steps} slices; heddle unrolls scans of 1 to ${MAX_ITERATIONS}`);
  let carried = [...states];
  const collected: (readonly Value[])[] = [];
  for (let t = 0; t < steps; t++) {
    const parts = scanned.map((v, i) => slice(build, v, axes[i], attrs.inputDirections[i] ? steps - 1 - t : t));
    const outputs = context.inline("body", [...carried, ...parts]);
    if (outputs.length < states.length)
      throw new HeddleError("bad-model", `Scan: the body gives ${outputs.length} values, wanted at least ${states.length}`);
    carried = outputs.slice(0, states.length);
    collected.push(outputs.slice(states.length));
  }
  const stacks = collected[0].map((_, k) => {
    const values = collected.map((c) => c[k]);
    return stacked(build, attrs.outputDirections[k] ? values.toReversed() : values, attrs.outputAxes[k] ?? 0);
  });
  return [...carried, ...stacks];
}

/** Before opset 9 there were sequence lengths, and a batch axis in front of everything. */
function importScan(context: ImportContext): readonly Value[] {
  const attrs = scanAttrs(context);
  const isBatched = context.opset < 9;
  if (isBatched && context.inputs[0]) throw new HeddleError("unsupported", "Scan: sequence lengths (opset 8) are not supported");
  const values = context.inputs.slice(isBatched ? 1 : 0).map((v, i) => present("Scan", v, i));
  const states = values.length - attrs.count;
  if (!(attrs.count >= 1) || states < 0)
    throw new HeddleError("bad-model", `Scan: ${values.length} inputs, of which ${attrs.count} are scanned`);
  if (!isBatched) return unrollScan(context, values.slice(0, states), values.slice(states), attrs);
  const build = importBuilder(context);
  const batch = values[0].type.shape[0];
  if (!(batch >= 1 && batch <= MAX_ITERATIONS)) throw new HeddleError("unsupported", `Scan: a batch of ${batch} is not supported`);
  const runs = Array.from({ length: batch }, (_, b) => {
    const parts = values.map((v) => slice(build, v, 0, b));
    return unrollScan(context, parts.slice(0, states), parts.slice(states), attrs);
  });
  return runs[0].map((_, k) =>
    stacked(
      build,
      runs.map((r) => r[k]),
      0,
    ),
  );
}

const graph: AttrSpec = { type: "graph" };
const ints: AttrSpec = { type: "ints", optional: true };

export const controlOps: readonly Op[] = [
  importOnly("If", { then_branch: graph, else_branch: graph }, importIf),
  importOnly("Loop", { body: graph }, importLoop),
  importOnly(
    "Scan",
    {
      body: graph,
      num_scan_inputs: { type: "int" },
      directions: ints,
      scan_input_axes: ints,
      scan_input_directions: ints,
      scan_output_axes: ints,
      scan_output_directions: ints,
    },
    importScan,
  ),
];
