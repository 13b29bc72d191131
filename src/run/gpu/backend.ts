// What scheduling asks of a GPU: kernels written for an operator, kernels generated from expressions, and none where JavaScript has to do.
import { DTYPES } from "../../ir/dtype.ts";
import { HeddleError } from "../../ir/error.ts";
import { loadReader } from "../../ir/expr_interpreter.ts";
import type { Graph, Node, Op, Reader, TensorType, Value } from "../../ir/graph.ts";
import { Group, groupAttrs } from "../../ir/group.ts";
import { newVar, varIndex } from "../../ir/index_expr.ts";
import type { SimtKernel, SimtTarget } from "../../ir/simt.ts";
import { elementCount } from "../../ir/tensor.ts";
import { composeReaders, type Expression } from "../../lower/compose.ts";
import { canLower } from "../../lower/scalar.ts";
import { lowerSimtReaders } from "../../lower/simt_group.ts";
import { OPS } from "../../ops/index.ts";
import { structureKey } from "../implement/structure_key.ts";
import { type Backend, type Step, valuePlace } from "../step.ts";
import * as contractions from "./contractions.ts";
import * as lines from "./lines.ts";

/** Operators that have no expression of their own, by one from which a kernel can be generated. */
const EXPRESSIONS: ReadonlyMap<Op, contractions.ExpressionOf> = new Map(
  Object.entries({
    MatMul: contractions.matMul,
    Conv: contractions.conv,
    ConvTranspose: contractions.convTranspose,
    ConvWeightGrad: contractions.convWeightGrad,
    Softmax: lines.softmax,
    LogSoftmax: lines.logSoftmax,
    LayerNormalization: lines.layerNormalization,
    MaxPool: lines.maxPool,
    AveragePool: lines.averagePool,
    ArgMax: lines.argMax,
    ArgMin: lines.argMin,
    ScatterRows: lines.scatterRows,
  }).map(([name, expression]) => [OPS.get(name)!, expression]), // ONNX's and our own
);

/** Operators around which a group may form: those that expressions are written for. */
const ANCHORS: ReadonlySet<Op> = new Set(
  ["MatMul", "Conv", "ConvTranspose", "ConvWeightGrad", "MaxPool", "AveragePool"].map((n) => OPS.get(n)!),
);

const expression: Expression = (inputs, node) => node.op.lower?.(inputs, node) ?? EXPRESSIONS.get(node.op)?.(inputs, node) ?? null;

export function gpuBackend(target: SimtTarget, alignment: number): Backend<SimtKernel> {
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
    implement: (node, name) => implement(node, name, target, shared),
    copy(type) {
      const name = `copy_${type.dtype}_${elementCount(type.shape)}`;
      return shared(name, name, () => lowerSimtReaders(name, [loadReader(type, 0)], [type], target));
    },
    bytesOf,
    alignment,
  };
}

type Shared = (key: string, name: string, generate: (name: string) => SimtKernel) => SimtKernel;

function implement(node: Node, name: string, target: SimtTarget, shared: Shared): Step<SimtKernel> {
  const onHost = { node, calls: null };
  const body = node.op === Group ? groupAttrs(node).body : alone(node);
  if (!body || body.inputs.length + body.outputs.length > target.maxBuffers) return onHost;
  if (body.outputs.every((o) => elementCount(o.value.type.shape) === 0)) return { node, calls: [] };
  const types = [...body.inputs, ...body.outputs.map((o) => o.value)].map((v) => v.type);
  if (types.some(({ dtype }) => !target.storedBytes[dtype])) return onHost;
  const readers = readersOf(body);
  if (!readers) return onHost;
  const inputs = body.inputs.map((v) => v.type);
  const kernel = shared(structureKey(body), name, (n) => lowerSimtReaders(n, readers, inputs, target));
  const reads = (node.op === Group ? node.inputs : body.inputs) as readonly Value[]; // a group's inputs are never absent
  return { node, calls: [{ kernel, places: [...reads, ...node.outputs].map(valuePlace) }] };
}

/** A node as a graph of its own; null when it has several outputs. */
function alone(node: Node): Graph | null {
  if (node.outputs.length !== 1) return null;
  const inputs = [...new Set(node.inputs.filter((v): v is Value => v !== null))];
  return { inputs, outputs: [{ name: "output", value: node.outputs[0] }] };
}

/** Null where registers cannot compute it. */
function readersOf(body: Graph): readonly Reader[] | null {
  try {
    const readers = composeReaders(body, (input, type) => loadReader(type, input), expression);
    return readers.every(({ type, at }) => canLower(at(type.shape.map((d) => varIndex(newVar(d)))))) ? readers : null;
  } catch (e) {
    if (e instanceof HeddleError && (e.code === "unsupported" || e.code === "dynamic")) return null;
    throw e;
  }
}
