// ONNX SparseTensorProto ↔ dense host tensor: indices of nonzeros as positions in the flat tensor or as coordinates.
import { DTYPES } from "../../ir/dtype.ts";
import { HeddleError } from "../../ir/error.ts";
import { bytesOf, elementCount, type TensorData, zeros } from "../../ir/tensor.ts";
import { create, SPARSE_TENSOR, type SparseTensorProto } from "./messages.ts";
import { checkedShape, decodeTensor, encodeTensor } from "./tensor.ts";

/** All sparse tensors of a model together may unpack to so many bytes: a few bytes of a file can stand for any number of zeros. */
const MAX_DENSE_BYTES = 2 ** 32;

/** What one import has unpacked so far. */
export interface DenseBudget {
  bytes: number;
}

/** The dense tensor. Throws HeddleError ("bad-model", "limit") where positions do not ascend or lie outside. */
export function decodeSparseTensor(proto: SparseTensorProto, what: string, budget: DenseBudget, directory?: string): TensorData {
  if (!proto.values || !proto.indices) throw new HeddleError("bad-model", `${what}: it has no ${proto.values ? "indices" : "values"}`);
  const shape = checkedShape(proto.dims, what);
  const values = decodeTensor(proto.values, what, directory);
  const indices = decodeTensor(proto.indices, `${what}: indices`, directory);
  const positions = linearPositions(indices, values, shape, what);
  budget.bytes += elementCount(shape) * DTYPES[values.dtype].bytes;
  if (budget.bytes > MAX_DENSE_BYTES) throw new HeddleError("limit", `${what}: with those before it, it unpacks to more than 4 GiB`);
  const dense = zeros(values.dtype, shape);
  for (let i = 0; i < positions.length; i++) dense.data[positions[i]] = values.data[i];
  return dense;
}

/** Positions in the flat tensor, ascending. `indices` is (nonzeros) or (nonzeros, rank). */
function linearPositions(indices: TensorData, values: TensorData, shape: readonly number[], what: string): Float64Array {
  const bad = (why: string) => new HeddleError("bad-model", `${what}: ${why}`);
  const [nonzeros] = values.shape;
  if (values.shape.length !== 1) throw bad(`values of shape (${values.shape}), wanted a list`);
  if (indices.dtype !== "i64") throw bad(`indices of ${indices.dtype}, wanted i64`);
  const isLinear = indices.shape.length === 1;
  const isPlaced = indices.shape.length === 2 && indices.shape[1] === shape.length;
  if ((!isLinear && !isPlaced) || indices.shape[0] !== nonzeros)
    throw bad(`indices of shape (${indices.shape}), wanted (${nonzeros}) or (${nonzeros}, ${shape.length})`);
  const sizes = isLinear ? [elementCount(shape)] : shape;
  const positions = new Float64Array(nonzeros);
  for (let i = 0; i < nonzeros; i++) {
    for (let axis = 0; axis < sizes.length; axis++) {
      const index = Number(indices.data[i * sizes.length + axis]);
      if (index < 0 || index >= sizes[axis]) throw bad(`index ${index} of nonzero ${i} is not from 0 to ${sizes[axis] - 1}`);
      positions[i] = positions[i] * sizes[axis] + index;
    }
    if (i > 0 && positions[i] <= positions[i - 1]) throw bad(`nonzero ${i} does not come after the one before it`);
  }
  return positions;
}

/** What one nonzero's position takes in the file. */
const INDEX_BYTES = DTYPES.i64.bytes;

/** The tensor with positions of its nonzeros; null where that is not smaller than the dense form (float32: from a third on). -0 is a nonzero: the result is exact. */
export function encodeSparseTensor(tensor: TensorData, name: string): SparseTensorProto | null {
  const { dtype, shape, data } = tensor;
  const { bytes: size } = DTYPES[dtype];
  const isSet = nonzeroBytes(tensor, size);
  const count = isSet.reduce((n, set) => n + set, 0);
  if (count * (INDEX_BYTES + size) >= data.length * size) return null;
  const values = new DTYPES[dtype].array(count);
  const positions = new BigInt64Array(count);
  for (let i = 0, at = 0; i < data.length; i++) {
    if (!isSet[i]) continue;
    values[at] = data[i];
    positions[at++] = BigInt(i);
  }
  return create(SPARSE_TENSOR, {
    values: encodeTensor({ dtype, shape: [count], data: values }, name),
    indices: encodeTensor({ dtype: "i64", shape: [count], data: positions }),
    dims: shape.map(BigInt),
  });
}

/** One for each element of which any bit is set. */
function nonzeroBytes(tensor: TensorData, size: number): Uint8Array {
  const bytes = bytesOf(tensor);
  const isSet = new Uint8Array(bytes.length / size);
  for (let i = 0; i < bytes.length; i++) if (bytes[i] !== 0) isSet[Math.floor(i / size)] = 1;
  return isSet;
}
