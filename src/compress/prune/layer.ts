// The weights of a graph that can be pruned, each seen as one matrix: a row for each output, a column for each input that the row weighs.
import { type Graph, type Node, topologicalOrder, type Value } from "../../ir/graph.ts";
import { elementCount, fromNumbers, type TensorData, toNumbers } from "../../ir/tensor.ts";
import { Input, inputName } from "../../ops/source.ts";

/** One weight of the network. Of a convolution in groups, each row weighs its own group's inputs. */
export interface Layer {
  /** The weight's name. */
  readonly name: string;
  readonly operator: string;
  /** As it is stored. */
  readonly shape: readonly number[];
  readonly rows: number;
  readonly columns: number;
  /** Of a convolution: elements of one kernel, which are neighbours in a row; otherwise 1. */
  readonly taps: number;
  readonly groups: number;
  /** Whether it is stored with a row for each input. */
  readonly isTransposed: boolean;
}

/** A node that multiplies by a layer's weight, and what it multiplies. */
export interface LayerUse {
  readonly layer: Layer;
  readonly node: Node;
  readonly data: Value;
}

/** The node whose result is the weight: behind a transposition, if there is one. */
function weightOf(value: Value): { readonly source: Value; readonly isTurned: boolean } {
  const { op, inputs, attrs } = value.node;
  const [inner] = inputs;
  if (op.name !== "Transpose" || !inner || inner.type.shape.length !== 2) return { source: value, isTurned: false };
  const perm = (attrs.perm ?? [1, 0]) as readonly number[]; // ONNX's attribute: absent, all axes the other way round
  return { source: inner, isTurned: perm[0] === 1 };
}

function layerOf(node: Node): Omit<LayerUse, "node"> | null {
  const [data, weight] = node.inputs;
  if (!data || !weight) return null;
  const { source, isTurned } = weightOf(weight);
  if (source.node.op !== Input) return null;
  const { shape } = source.type;
  const head = { name: inputName(source), operator: node.op.name, shape };
  if (node.op.name === "Conv") {
    const groups = node.attrs.group as number; // checked by its operator
    const taps = elementCount(shape.slice(2));
    if (isTurned || (groups > 1 && shape[1] === 1)) return null; // one input a row: there is nothing to choose from
    return { layer: { ...head, rows: shape[0], columns: shape[1] * taps, taps, groups, isTransposed: false }, data };
  }
  const isProduct = node.op.name === "MatMul" || (node.op.name === "Gemm" && node.attrs.transA === 0);
  if (!isProduct || shape.length !== 2) return null;
  const isTransposed = (node.attrs.transB === 1) === isTurned;
  const [rows, columns] = isTransposed ? [shape[1], shape[0]] : shape;
  return { layer: { ...head, rows, columns, taps: 1, groups: 1, isTransposed }, data };
}

/** What multiplies by inputs of the graph called `names`: convolutions (not depthwise ones) and matrix products, in the order in which they run. */
export function layerUses(graph: Graph, names: ReadonlySet<string>): LayerUse[] {
  return topologicalOrder(graph).flatMap((node) => {
    const found = ["Conv", "MatMul", "Gemm"].includes(node.op.name) ? layerOf(node) : null;
    return found && names.has(found.layer.name) ? [{ ...found, node }] : [];
  });
}

/** Each weight once. One that two nodes see differently is left out: no choice of columns would be right for both. */
export function layersOf(uses: readonly LayerUse[]): Layer[] {
  const byName = new Map<string, Layer | null>();
  for (const { layer } of uses) {
    const known = byName.get(layer.name);
    const isSame = known === undefined || (known?.columns === layer.columns && known.isTransposed === layer.isTransposed);
    byName.set(layer.name, isSame ? layer : null);
  }
  return [...byName.values()].filter((layer) => layer !== null);
}

export const sizeOf = ({ rows, columns }: Layer): number => rows * columns;

/** The weight as a matrix (rows, columns). */
export function matrixOf(layer: Layer, weight: TensorData): Float64Array {
  const values = toNumbers(weight);
  return layer.isTransposed ? transposed(values, layer.columns, layer.rows) : values;
}

/** A matrix in the form in which the weight is stored. */
export function weightFrom(layer: Layer, matrix: ArrayLike<number>, dtype: TensorData["dtype"] = "f32"): TensorData {
  return fromNumbers(dtype, layer.shape, layer.isTransposed ? transposed(matrix, layer.rows, layer.columns) : matrix);
}

function transposed(values: ArrayLike<number>, rows: number, columns: number): Float64Array {
  const out = new Float64Array(values.length);
  for (let i = 0; i < rows; i++) for (let j = 0; j < columns; j++) out[j * rows + i] = values[i * columns + j];
  return out;
}
