// Bytes of an ONNX file → model: parsed, names checked, inputs and outputs with their symbolic shapes.
import type { DType } from "../../ir/dtype.ts";
import { HeddleError } from "../../ir/error.ts";
import { type Dimension, type GraphProto, MODEL, type ModelProto, type OperatorSetIdProto, type ValueInfoProto } from "./messages.ts";
import { initializerNames, orderedNodes, type PlacedNode, plain } from "./structure.ts";
import { onnxDType } from "./tensor.ts";
import { decode } from "./wire_reader.ts";

/** An input or output. A size is a number, a name, or null where nothing is known; shape null: not even the rank is. */
export interface OnnxValueInfo {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: readonly (number | string | null)[] | null;
}

export interface OnnxModel {
  readonly proto: ModelProto;
  readonly graph: GraphProto;
  /** The graph's nodes in an order in which they can run. */
  readonly nodes: readonly PlacedNode[];
  /** Operator set version by domain; ONNX's own domain is "". */
  readonly opsets: ReadonlyMap<string, number>;
  /** What must be given: not the inputs that only name an initializer. */
  readonly inputs: readonly OnnxValueInfo[];
  readonly outputs: readonly OnnxValueInfo[];
  /** Where external data lies. */
  readonly directory?: string;
}

export interface ReadOptions {
  /** Directory of the model file; external data is read from inside it only. */
  readonly directory?: string;
}

/** Parses a model and checks its structure. Throws HeddleError ("bad-model", "unsupported", "limit") and nothing else. */
export function readOnnx(bytes: Uint8Array, options: ReadOptions = {}): OnnxModel {
  return asBadModel("model", () => {
    const proto = decode(MODEL, bytes);
    const { graph } = proto;
    if (!graph) throw new HeddleError("bad-model", "model: the file holds no graph; is it an ONNX file?");
    const opsets = opsetsOf(proto.opsetImport);
    if (opsets.size === 0) throw new HeddleError("bad-model", "model: it does not say which version of the operators it uses");
    const nodes = orderedNodes(graph, () => false);
    const initialized = new Set(initializerNames(graph));
    return {
      proto,
      graph,
      nodes,
      opsets,
      inputs: graph.input.filter((v) => !initialized.has(v.name)).map((v) => valueInfo(v, "input")),
      outputs: graph.output.map((v) => valueInfo(v, "output")),
      directory: options.directory,
    };
  });
}

/** Messages may quote the file (an attribute's text); no longer than this. */
const MAX_MESSAGE = 900;

/** Runs `f`; whatever it throws besides HeddleError (stack or allocation limits met through hostile files) becomes one. Messages become one line. */
export function asBadModel<T>(what: string, f: () => T): T {
  try {
    return f();
  } catch (e) {
    if (e instanceof HeddleError) {
      const message = plain(e.message, MAX_MESSAGE);
      throw message === e.message ? e : new HeddleError(e.code, message, { cause: e });
    }
    throw new HeddleError("bad-model", `${what}: ${plain(e instanceof Error ? e.message : String(e))}`, { cause: e });
  }
}

/** Versions by domain. "ai.onnx" is another name of "". */
export function opsetsOf(imports: readonly OperatorSetIdProto[]): ReadonlyMap<string, number> {
  return new Map(imports.map(({ domain, version }) => [ownDomain(domain), Number(version)]));
}

export const ownDomain = (domain: string): string => (domain === "ai.onnx" ? "" : domain);

function valueInfo({ name, type }: ValueInfoProto, what: string): OnnxValueInfo {
  const origin = `${what} ${plain(name)}`;
  const kind = Object.entries(type ?? {}).find(([, value]) => value !== undefined)?.[0];
  if (kind === undefined && what === "output") return { name, dtype: "f32", shape: null }; // its type is inferred anyway
  if (kind === undefined) throw new HeddleError("bad-model", `${origin}: it has no type`);
  if (!type?.tensorType)
    throw new HeddleError("unsupported", `${origin}: ${kind.replace("Type", "")} values are not supported, only tensors`);
  const { elemType, shape } = type.tensorType;
  return { name, dtype: onnxDType(elemType, origin), shape: shape ? shape.dim.map(dimension) : null };
}

/** Some exporters write -1 for a size that is not known. */
function dimension({ dimValue, dimParam }: Dimension): number | string | null {
  if (dimValue !== undefined) return dimValue < 0n ? null : Number(dimValue);
  return dimParam ? plain(dimParam) : null;
}
