// What scheduling asks of a GPU: kernels written for an operator, kernels generated from expressions, and none where JavaScript has to do.
import { DTYPES } from "../../ir/dtype.ts";
import { HeddleError } from "../../ir/error.ts";
import type { Expr } from "../../ir/expr.ts";
import { loadReader } from "../../ir/expr_interpreter.ts";
import { type Graph, makeNode, type Node, type Op, type Reader, type TensorType, type Value } from "../../ir/graph.ts";
import { Group, groupAttrs } from "../../ir/group.ts";
import { type Index, newVar, varIndex } from "../../ir/index_expr.ts";
import type { GpuKernel } from "../../ir/library_kernel.ts";
import type { Precision } from "../../ir/precision.ts";
import type { SimtKernel, SimtTarget } from "../../ir/simt.ts";
import { elementCount } from "../../ir/tensor.ts";
import { composeReaders, type Expression } from "../../lower/compose.ts";
import { canLower } from "../../lower/scalar.ts";
import { lowerSimtReaders } from "../../lower/simt_group.ts";
import { OPS } from "../../ops/index.ts";
import { RandomWords } from "../../ops/random_words.ts";
import { constantOf, input } from "../../ops/source.ts";
import { anchorParts } from "../implement/epilogue.ts";
import { structureKey } from "../implement/structure_key.ts";
import { gpuLayoutCosts } from "../layout_costs.ts";
import { rangedLeaf } from "../ranges.ts";
import { type Backend, type KernelCall, type Place, type Step, valuePlace } from "../step.ts";
import { joinSteps } from "./chains.ts";
import * as contractions from "./contractions.ts";
import { type DirectImplementation, randomWords } from "./direct.ts";
import { concatInTurns } from "./implement_concat.ts";
import { implementConv, implementConvTranspose } from "./implement_conv.ts";
import { implementLayerNorm } from "./implement_layer_norm.ts";
import { logSumExp } from "./implement_log_sum_exp.ts";
import { implementMatMul } from "./implement_matmul.ts";
import { recurrentLoop } from "./implement_recurrent.ts";
import { roiAlign } from "./implement_roi_align.ts";
import { cumSum } from "./implement_scan.ts";
import { scatterRows } from "./implement_scatter_rows.ts";
import { topK } from "./implement_sort.ts";
import { implementConvWeightGrad } from "./implement_weight_grad.ts";
import { implementMaxPool } from "./implement_windows.ts";
import { KEPT_CALLS, KEPT_FITS } from "./kept_operators.ts";
import { libraryCalls } from "./library_calls.ts";
import type { Fits } from "./library_operators.ts";
import * as lines from "./lines.ts";
import type { GpuImplementation, GpuTask } from "./product_calls.ts";
import { RARE_EXPRESSIONS } from "./rare_expressions.ts";
import * as scores from "./score_lines.ts";
import { launchTogether } from "./together.ts";
import { twoPasses } from "./two_passes.ts";

/** A table by operators' names; browsers lack some that are for training. */
function byOperator<T>(table: Readonly<Record<string, T>>): ReadonlyMap<Op, T> {
  return new Map(Object.entries(table).flatMap(([name, entry]) => (OPS.has(name) ? [[OPS.get(name)!, entry] as const] : [])));
}

/** Operators that have no expression of their own, by one from which a kernel can be generated. */
const EXPRESSIONS: ReadonlyMap<Op, contractions.ExpressionOf> = byOperator<contractions.ExpressionOf>({
  MatMul: contractions.matMul,
  Conv: contractions.conv,
  ConvTranspose: contractions.convTranspose,
  ConvWeightGrad: contractions.convWeightGrad,
  Softmax: lines.softmax,
  LogSoftmax: lines.logSoftmax,
  ScoreWeights: scores.scoreWeights,
  ScoreWeightsGrad: scores.scoreWeightsGrad,
  LayerNormalization: lines.layerNormalization,
  MaxPool: lines.maxPool,
  AveragePool: lines.averagePool,
  ArgMax: lines.argMax,
  ArgMin: lines.argMin,
  ...RARE_EXPRESSIONS,
});

/** Operators around which a group may form: those that expressions are written for. */
const ANCHORS: ReadonlySet<Op> = new Set(
  [...EXPRESSIONS.keys()].filter(({ name }) => !name.startsWith("Arg") && (name === "MaxPool" || !RARE_EXPRESSIONS[name])),
);

/** Operators with kernels written for them; where one declines, the expression is lowered. */
const WRITTEN: ReadonlyMap<Op, GpuImplementation> = byOperator({
  MatMul: implementMatMul,
  Conv: implementConv,
  ConvTranspose: implementConvTranspose,
  ConvWeightGrad: implementConvWeightGrad,
  MaxPool: implementMaxPool,
  LayerNormalization: implementLayerNorm,
});

/** Operators that are kernels by themselves, without what is around them. */
const DIRECT: ReadonlyMap<Op, DirectImplementation> = new Map([
  [RandomWords, randomWords],
  ...byOperator(KEPT_CALLS),
  ...byOperator({
    ScatterRows: scatterRows,
    CumSum: cumSum,
    TopK: topK,
    RoiAlign: roiAlign,
    RNNLoop: recurrentLoop,
    GRULoop: recurrentLoop,
    LSTMLoop: recurrentLoop,
  }),
]);

/** Operators that are made of others where these say that there are no kernels for them. */
const KEPT: ReadonlyMap<Op, Fits> = byOperator(KEPT_FITS);

const expression: Expression = (inputs, node) => {
  const readers = node.op.lower?.(inputs, node) ?? EXPRESSIONS.get(node.op)?.(inputs, node);
  return readers?.length === node.outputs.length ? readers : null;
};

export function gpuBackend(target: SimtTarget, alignment: number, precision?: Precision): Backend<GpuKernel> {
  const kernels = new Map<string, SimtKernel>();
  const shared = (key: string, name: string, generate: (name: string) => SimtKernel): SimtKernel => {
    const known = kernels.get(key);
    if (known) return known;
    const kernel = generate(name);
    kernels.set(key, kernel);
    return kernel;
  };
  const bytesOf = ({ dtype, shape }: TensorType): number => elementCount(shape) * (target.storedBytes[dtype] ?? DTYPES[dtype].bytes);
  return {
    isAnchor: (node) => ANCHORS.has(node.op),
    keeps: (node, narrow) => KEPT.get(node.op)?.(node, narrow, target) ?? false,
    rereads: true,
    layoutCosts: gpuLayoutCosts,
    implement: (node, name) => implement(node, { name, target, shared, roundsF32: precision === "tf32" }),
    join: (steps, owner, isKept) =>
      joinSteps(steps, owner, isKept, {
        target,
        shared,
        computed: ({ node }) => (node.op === Group ? { body: groupAttrs(node).body, reads: node.inputs as readonly Value[] } : alone(node)), // a group's inputs are never absent
        readers: readersOf,
      }),
    ...(target.hasSets && {
      together: (steps, owner, states, kept) => launchTogether(steps, { target, owner, states, kept, bytesOf: (v) => bytesOf(v.type) }),
    }),
    copy(type) {
      const name = `copy_${type.dtype}_${elementCount(type.shape)}`;
      return shared(name, name, () => lowerSimtReaders(name, [loadReader(type, 0)], [type], target));
    },
    bytesOf,
    alignment,
  };
}

/** All of a task but its node. */
type Means = Pick<GpuTask, "name" | "target" | "shared" | "roundsF32">;

function implement(node: Node, means: Means): Step<GpuKernel> {
  const { name, target, shared } = means;
  const onHost = { node, calls: null };
  if (KEPT.has(node.op)) return { node, calls: DIRECT.get(node.op)!(node, name, target, shared) }; // of the table
  const direct = DIRECT.get(node.op);
  const own = direct && isKept(node, target) ? direct(node, name, target, shared) : null;
  if (own) return { node, calls: own };
  const single = node.op === Group ? null : alone(node);
  const body = single?.body ?? groupAttrs(node).body;
  if (body.outputs.every((o) => elementCount(o.value.type.shape) === 0)) return { node, calls: [] };
  const types = [...body.inputs, ...body.outputs.map((o) => o.value)].map((v) => v.type);
  if (types.some(({ dtype }) => !target.storedBytes[dtype])) return onHost;
  const reads = single?.reads ?? (node.inputs as readonly Value[]); // a group's inputs are never absent
  if (types.length > target.maxBuffers) return { node, calls: concatInTurns(node, body, reads, means) };
  const written = writtenFor(node, means) ?? logSumExp(node, body, reads, means);
  if (written) return { node, calls: written };
  const readers = readersOf(body, rangedLeaf(reads));
  if (!readers) return onHost;
  const inputs = body.inputs.map((v) => v.type);
  const key = structureKey(body);
  const shapes = [...new Set(readers.map(({ type }) => type.shape.join()))];
  const passes = shapes.length === 1 ? twoPasses(readers, inputs.length, target) : null;
  if (passes) {
    const first = shared(`parts ${key}`, `${name}_parts`, (n) => lowerSimtReaders(n, [passes.first], inputs, target));
    const second = shared(`joined ${key}`, name, (n) => lowerSimtReaders(n, passes.second, [...inputs, passes.parts], target));
    const between: Place = { k: "temporary", id: 0, bytes: first.params[first.params.length - 1].bytes };
    const places = reads.map(valuePlace);
    return { node, calls: [{ kernel: first, places: [...places, between] }, { kernel: second, places: [...places, between, ...node.outputs.map(valuePlace)] }] }; // biome-ignore format: short
  }
  // Outputs of one shape come from one kernel.
  const calls = shapes.map((shape, i) => {
    const own = [...readers.keys()].filter((r) => readers[r].type.shape.join() === shape);
    const generate = (n: string): SimtKernel => lowerSimtReaders(n, own.map((r) => readers[r]), inputs, target); // biome-ignore format: short
    const kernel = shared(`${key} ${own}`, i === 0 ? name : `${name}_${i}`, generate);
    return { kernel, places: [...reads, ...own.map((r) => node.outputs[r])].map(valuePlace) };
  });
  return { node, calls };
}

/** Whether the device keeps all that it reads and gives, and there is something to do. */
const isKept = ({ inputs, outputs }: Node, { storedBytes }: SimtTarget): boolean =>
  [...inputs, ...outputs].every((v) => !v || storedBytes[v.type.dtype]) && outputs.every((v) => elementCount(v.type.shape) > 0);

/** Null where there are none. */
function writtenFor(node: Node, means: Means): readonly KernelCall<GpuKernel>[] | null {
  const anchor = node.op === Group ? groupAttrs(node).anchor : node;
  const implementation = anchor && WRITTEN.get(anchor.op);
  const parts = implementation ? anchorParts(node) : null;
  if (!implementation || !parts) return null;
  const task = { ...parts, ...means };
  return libraryCalls(task) ?? implementation(task);
}

/** A node over inputs of its own, and what they stand for; constants stay what they are. */
function alone(node: Node): { readonly body: Graph; readonly reads: readonly Value[] } {
  const reads = [...new Set(node.inputs.filter((v): v is Value => v !== null))];
  const formal = new Map(reads.map((v, i) => [v, constantOf(v) ? v : input(`in${i}`, v.type)]));
  const inputs = node.inputs.map((v) => v && formal.get(v)!); // of all that are there
  const { outputs } = makeNode(node.op, inputs, node.attrs, node.outputs.map((v) => v.type), node.from); // biome-ignore format: short
  return { body: { inputs: [...formal.values()], outputs: outputs.map((value, i) => ({ name: `output${i}`, value })) }, reads };
}

/** Whether it moves random words (parts of a key), which canLower, made for vectors, leaves out. */
const isWordCopy = (e: Expr): boolean => e.k === "load" && e.dtype === "u32" && readsNothing(e.at);
/** Whether no element of a tensor is part of the index. */
const readsNothing = ({ terms }: Index): boolean =>
  terms.every(({ atom }) => atom.k === "var" || (atom.k !== "value" && readsNothing(atom.a)));

/** Null where registers cannot compute it. */
function readersOf(body: Graph, leaf = (input: number, type: TensorType): Reader => loadReader(type, input)): readonly Reader[] | null {
  try {
    const readers = composeReaders(body, leaf, expression);
    const exprs = readers.map(({ type, at }) => at(type.shape.map((d) => varIndex(newVar(d)))));
    return exprs.every((e) => canLower(e, true) || isWordCopy(e)) ? readers : null;
  } catch (e) {
    if (e instanceof HeddleError && (e.code === "unsupported" || e.code === "dynamic")) return null;
    throw e;
  }
}
