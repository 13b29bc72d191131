// ONNX model and concrete input shapes → Graph: operators applied, functions and known branches inlined, shape arithmetic folded.
import { HeddleError } from "../../ir/error.ts";
import { type Attrs, apply, type Graph, type ImportContext, type Op, type Value } from "../../ir/graph.ts";
import { atOnce, type Pieces } from "../../ir/pieces.ts";
import type { TensorData } from "../../ir/tensor.ts";
import { OPS } from "../../ops/index.ts";
import { constantOf, constantValue, input } from "../../ops/source.ts";
import { checkedAttributes, decodeAttributes } from "./attribute.ts";
import { constantTensor } from "./constant_node.ts";
import { type FoldBudget, foldNode } from "./fold.ts";
import { type FunctionTable, functionBody, functionOf, functionTable } from "./function.ts";
import type { FunctionProto, GraphProto, SparseTensorProto, TensorProto } from "./messages.ts";
import { asBadModel, type OnnxModel, opsetsOf, ownDomain } from "./read.ts";
import { resolveShapes } from "./shapes.ts";
import { type DenseBudget, decodeSparseTensor } from "./sparse_tensor.ts";
import { initializerNames, MAX_DEPTH, MAX_NODES, orderedNodes, orderNodes, type PlacedNode, plain } from "./structure.ts";
import { checkSizes, decodeTensor } from "./tensor.ts";

/** Newest version of ONNX's operators that the definitions were written for. */
const NEWEST_OPSET = 24;
/** Domains whose operators are in heddle's table. */
const DOMAINS: readonly string[] = ["", "ai.onnx.preview.training"];

type InputShapes = Readonly<Record<string, readonly number[]>>;
type InputValues = Readonly<Record<string, TensorData>>;

/** What one import shares. */
interface Session {
  readonly functions: FunctionTable;
  readonly directory?: string;
  readonly budget: FoldBudget;
  readonly dense: DenseBudget;
  nodes: number;
}

/** Names visible in a graph, a function or a branch. Initializers are decoded when first used. */
interface Scope {
  readonly session: Session;
  readonly values: Map<string, Value>;
  readonly initializers: ReadonlyMap<string, TensorProto | SparseTensorProto>;
  /** Around a branch; functions see nothing outside. */
  readonly outer: Scope | null;
  readonly opsets: ReadonlyMap<string, number>;
  /** Put before node names: where the function or branch is used. */
  readonly prefix: string;
  readonly depth: number;
}

/**
 * The network for these input shapes. Inputs with symbolic sizes must be in `shapes`; others may be. Inputs in `values` become constants,
 * so that shapes may depend on them.
 * Throws HeddleError: "bad-argument" (shapes), "unsupported" (operator, domain, opset and node are named), "bad-model", "missing", "limit".
 */
export const importGraph = (model: OnnxModel, shapes: InputShapes = {}, values: InputValues = {}): Graph =>
  atOnce(importInPieces(model, shapes, values));

/** importGraph, node by node. */
export function* importInPieces(model: OnnxModel, shapes: InputShapes, values: InputValues): Pieces<Graph> {
  const { given, scope } = asBadModel("model", () => {
    const concrete = resolveShapes(model, shapes);
    const session: Session = {
      functions: functionTable(model.proto),
      directory: model.directory,
      budget: { work: 0 },
      dense: { bytes: 0 },
      nodes: 0,
    };
    const given = model.inputs.map(
      ({ name, dtype }) =>
        Object.hasOwn(values, name) ? constantValue(values[name], plain(name)) : input(name, { dtype, shape: concrete.get(name)! }), // resolved for all inputs
    );
    const scope = graphScope(model.graph, session, null, model.opsets, "", new Map(given.map((v, i) => [model.inputs[i].name, v])));
    return { given, scope };
  });
  for (const node of model.nodes) {
    asBadModel("model", () => defineOutputs(node, scope));
    yield;
  }
  const inputs = given.filter((v) => !constantOf(v));
  const outputs = asBadModel("model", () => model.graph.output.map(({ name }) => ({ name, value: lookUp(scope, name, "graph output") })));
  return { inputs, outputs };
}

function graphScope(
  graph: GraphProto,
  session: Session,
  outer: Scope | null,
  opsets: Scope["opsets"],
  prefix: string,
  values: Map<string, Value>,
): Scope {
  const all = [...graph.initializer, ...graph.sparseInitializer];
  const names = initializerNames(graph);
  const initializers = new Map(all.map((tensor, i) => [names[i], tensor]));
  return { session, values, initializers, outer, opsets, prefix, depth: (outer?.depth ?? 0) + 1 };
}

/** The value of a name. Throws where nothing defines it. */
function lookUp(scope: Scope, name: string, user: string): Value {
  for (let at: Scope | null = scope; at; at = at.outer) {
    const value = at.values.get(name);
    if (value) return value;
    const initializer = at.initializers.get(name);
    if (!initializer) continue;
    const what = `initializer ${plain(name)}`;
    const { directory, dense } = scope.session;
    const tensor =
      "rawData" in initializer ? decodeTensor(initializer, what, directory) : decodeSparseTensor(initializer, what, dense, directory);
    const constant = constantValue(tensor, plain(name));
    at.values.set(name, constant);
    return constant;
  }
  throw new HeddleError("bad-model", `${user}: ${plain(name)} is not defined`);
}

const isVisible =
  (scope: Scope | null) =>
  (name: string): boolean => {
    for (let at = scope; at; at = at.outer) if (at.values.has(name) || at.initializers.has(name)) return true;
    return false;
  };

function runNodes(nodes: readonly PlacedNode[], scope: Scope): void {
  if (scope.depth > MAX_DEPTH) throw new HeddleError("limit", `model: functions and branches are nested more than ${MAX_DEPTH} deep`);
  for (const node of nodes) defineOutputs(node, scope);
}

/** Runs the node, and gives its results their names. */
function defineOutputs(node: PlacedNode, scope: Scope): void {
  const name = `${scope.prefix}${node.name}`;
  const what = plain(node.proto.opType);
  if (++scope.session.nodes > MAX_NODES) throw new HeddleError("limit", `model: more than ${MAX_NODES} nodes after inlining functions`);
  const outputs = located(what, name, () => runNode(node, name, scope));
  for (const [i, output] of node.proto.output.entries()) {
    if (output === "") continue;
    if (!outputs[i])
      throw new HeddleError(
        "unsupported",
        `${what}: output ${i} (${plain(output)}) is not supported, only ${outputs.length}; from ${name}`,
      );
    scope.values.set(output, outputs[i]);
  }
}

/** Adds the node to what goes wrong inside it, once. */
function located<T>(what: string, name: string, f: () => T): T {
  try {
    return asBadModel(what, f);
  } catch (e) {
    if (!(e instanceof HeddleError) || e.message.includes("; from ")) throw e;
    throw new HeddleError(e.code, `${e.message}; from ${name}`, { cause: e });
  }
}

function runNode({ proto }: PlacedNode, name: string, scope: Scope): readonly Value[] {
  const what = plain(proto.opType);
  const domain = ownDomain(proto.domain);
  const inputs = proto.input.map((n) => (n === "" ? null : lookUp(scope, n, what)));
  while (inputs.length > 0 && inputs[inputs.length - 1] === null) inputs.pop();
  const f = functionOf(scope.session.functions, proto);
  if (f) return runFunction(f, functionBody(f, proto.attribute), inputs, name, scope);
  const opset = scope.opsets.get(domain);
  if (opset === undefined) throw new HeddleError("bad-model", `${what}: the model imports no operators of the domain "${plain(domain)}"`);
  const isConstant = domain === "" && proto.opType === "Constant";
  const known = DOMAINS.includes(domain) ? OPS.get(proto.opType) : undefined;
  const op = known?.own ? undefined : known;
  if (!op && !isConstant)
    throw new HeddleError("unsupported", `${what}: heddle has no such operator (domain "${plain(domain) || "ai.onnx"}", opset ${opset})`);
  if (domain === "" && (opset < 1 || opset > NEWEST_OPSET))
    throw new HeddleError("unsupported", `${what}: opset ${opset} is not supported, heddle reads 1 to ${NEWEST_OPSET}`);
  const attrs = decodeAttributes(proto.attribute, what, scope.session.directory);
  if (!op) return [constantValue(constantTensor(attrs), name)];
  const context = importContext(scope, proto, name, opset, inputs, attrs);
  return op.importOnnx ? op.importOnnx(context) : context.emit(op as unknown as Op<never>, inputs, attrs); // emit takes every operator
}

function importContext(
  scope: Scope,
  proto: PlacedNode["proto"],
  name: string,
  opset: number,
  inputs: readonly (Value | null)[],
  attrs: Attrs,
): ImportContext {
  let outputCount = proto.output.length;
  while (outputCount > 1 && proto.output[outputCount - 1] === "") outputCount--;
  return {
    opset,
    name,
    inputs,
    attrs,
    outputCount,
    constant: (data: TensorData) => constantValue(data, name),
    emit(op, operands, given = {}) {
      const erased = op as unknown as Op; // attributes are checked against its table here
      const outputs = apply(erased, operands, checkedAttributes(erased, given), name);
      for (const { type } of outputs) checkSizes(type.shape, erased.name);
      return foldNode(outputs[0].node, scope.session.budget);
    },
    inline: (attr, bind = []) => runBranch(proto, attr, bind, name, scope),
  };
}

/** A sub-graph attribute, run where the node stands. */
function runBranch(proto: PlacedNode["proto"], attr: string, bind: readonly Value[], name: string, scope: Scope): readonly Value[] {
  const graph = proto.attribute.find((a) => a.name === attr)?.g;
  if (!graph) throw new HeddleError("bad-model", `${plain(proto.opType)}: attribute ${attr} is missing`);
  if (graph.input.length !== bind.length)
    throw new HeddleError("bad-model", `${plain(proto.opType)}: ${attr} has ${graph.input.length} inputs, wanted ${bind.length}`);
  const bound = new Map(graph.input.map((v, i) => [v.name, bind[i]]));
  const inner = graphScope(graph, scope.session, scope, scope.opsets, `${name}/`, bound);
  runNodes(orderedNodes(graph, isVisible(scope)), inner);
  return graph.output.map((o) => lookUp(inner, o.name, attr));
}

function runFunction(
  f: FunctionProto,
  body: FunctionProto["node"],
  inputs: readonly (Value | null)[],
  name: string,
  scope: Scope,
): readonly Value[] {
  const what = `function ${plain(f.name)}`;
  if (inputs.length > f.input.length) throw new HeddleError("bad-model", `${what}: ${inputs.length} inputs, it takes ${f.input.length}`);
  const absent = new Set(f.input.filter((_, i) => !inputs[i]));
  const nodes = absent.size > 0 ? body.map((node) => ({ ...node, input: node.input.map((n) => (absent.has(n) ? "" : n)) })) : body;
  const values = new Map(f.input.flatMap((n, i): [string, Value][] => (inputs[i] ? [[n, inputs[i]]] : [])));
  const { session, depth } = scope;
  const opsets = opsetsOf(f.opsetImport);
  const inner: Scope = { session, values, initializers: new Map(), outer: null, opsets, prefix: `${name}/`, depth: depth + 1 };
  runNodes(
    orderNodes(nodes, new Set(values.keys()), () => false),
    inner,
  );
  return f.output.map((n) => lookUp(inner, n, what));
}
