// ONNX TensorProto ↔ host tensor, with every length checked before anything is allocated.
import { DTYPES, type DType, dtypeFromOnnx, type TypedArray } from "../../ir/dtype.ts";
import { HeddleError } from "../../ir/error.ts";
import { elementCount, type TensorData, unalignedTensor } from "../../ir/tensor.ts";
import { readExternal } from "./external.ts";
import { create, TENSOR, type TensorProto } from "./messages.ts";

/** Where data lies: TensorProto.DataLocation. */
const EXTERNAL = 1;

/** More elements than this are refused everywhere. */
export const MAX_ELEMENTS = 2 ** 31;

/** dtype of an ONNX data type number; `what` names the tensor in the error. */
export function onnxDType(code: number, what: string): DType {
  const dtype = dtypeFromOnnx(code);
  if (dtype) return dtype;
  const known = Object.keys(DTYPES).join(", ");
  if (code <= 0 || code > 26) throw new HeddleError("bad-model", `${what}: data type ${code} is not an ONNX type`);
  throw new HeddleError("unsupported", `${what}: ONNX data type ${TYPE_NAMES[code] ?? code} is not supported (${known} are)`);
}

const TYPE_NAMES: Readonly<Record<number, string>> = {
  8: "string", 14: "complex64", 15: "complex128", 21: "uint4", 22: "int4", 23: "float4e2m1",
}; // biome-ignore format: a table

/** Shape from wire dimensions; refuses negative sizes and more than 2^31 elements. */
export function checkedShape(dims: readonly bigint[], what: string): number[] {
  if (dims.length > 64) throw new HeddleError("bad-model", `${what}: ${dims.length} axes, heddle takes at most 64`);
  const shape = dims.map(Number);
  checkSizes(shape, what);
  return shape;
}

/** Refuses sizes that are no counts, and more than 2^31 elements: also where a zero size hides the others. */
export function checkSizes(shape: readonly number[], what: string): void {
  const bad = shape.find((d) => !Number.isInteger(d) || d < 0);
  if (bad !== undefined) throw new HeddleError("bad-model", `${what}: shape (${shape}) has the size ${bad}`);
  const count = shape.reduce((n, d) => n * Math.max(1, d), 1);
  if (count > MAX_ELEMENTS) throw new HeddleError("limit", `${what}: shape (${shape}) has more than 2^31 elements`);
}

/** Bytes that are worth not to be copied before somebody needs them. */
const LARGE = 4096;

/** Values of a tensor of the file. Those in raw form and aligned are views of the file's bytes. */
export function decodeTensor(proto: TensorProto, what: string, directory?: string): TensorData {
  const dtype = onnxDType(proto.dataType, what);
  const shape = checkedShape(proto.dims, what);
  const count = elementCount(shape);
  if (proto.segment) throw new HeddleError("unsupported", `${what}: segmented tensors are not supported`);
  const bytes = rawBytes(proto, count * DTYPES[dtype].bytes, what, directory);
  if (bytes) {
    const wanted = count * DTYPES[dtype].bytes;
    if (bytes.length !== wanted)
      throw new HeddleError("bad-model", `${what}: ${bytes.length} bytes of data, ${dtype}[${shape}] has ${wanted}`);
    const isAligned = bytes.byteOffset % DTYPES[dtype].bytes === 0;
    return isAligned || dtype === "bool" || bytes.length < LARGE
      ? { dtype, shape, data: viewBytes(dtype, bytes) }
      : unalignedTensor(dtype, shape, bytes);
  }
  const { field, values } = typedData(proto, dtype);
  if (values.length !== count)
    throw new HeddleError("bad-model", `${what}: ${values.length} values in ${field}, ${dtype}[${shape}] has ${count}`);
  return { dtype, shape, data: fromTyped(dtype, values) };
}

/** Bytes stored in raw form or outside the file; undefined: values are in a typed field. */
function rawBytes(proto: TensorProto, wanted: number, what: string, directory: string | undefined): Uint8Array | undefined {
  if (proto.dataLocation === EXTERNAL) return readExternal(proto.externalData, wanted, what, directory);
  return proto.rawData.length > 0 ? proto.rawData : undefined;
}

/** Typed view of little-endian bytes; copies them where they are not aligned. */
export function viewBytes(dtype: DType, bytes: Uint8Array): TypedArray {
  const { array, bytes: size } = DTYPES[dtype];
  const aligned = bytes.byteOffset % size === 0 ? bytes : new Uint8Array(bytes); // not slice(): a Buffer's shares memory
  const data = new array(aligned.buffer, aligned.byteOffset, aligned.length / size);
  if (dtype === "bool" && data.some((b) => (b as number) > 1)) return Uint8Array.from(aligned, (b) => (b ? 1 : 0));
  return data;
}

interface TypedField {
  readonly field: string;
  readonly values: readonly number[] | readonly bigint[];
}

/** The field that holds a dtype's values (onnx.proto: comments on TensorProto). */
function typedData(proto: TensorProto, dtype: DType): TypedField {
  if (dtype === "f32") return { field: "float_data", values: proto.floatData };
  if (dtype === "f64") return { field: "double_data", values: proto.doubleData };
  if (dtype === "i64") return { field: "int64_data", values: proto.int64Data };
  if (dtype === "u32" || dtype === "u64") return { field: "uint64_data", values: proto.uint64Data };
  return { field: "int32_data", values: proto.int32Data };
}

function fromTyped(dtype: DType, values: TypedField["values"]): TypedArray {
  const out = new DTYPES[dtype].array(values.length);
  if (dtype === "i64" || dtype === "u64") for (let i = 0; i < values.length; i++) out[i] = values[i];
  else if (dtype === "bool") for (let i = 0; i < values.length; i++) out[i] = values[i] ? 1 : 0;
  else for (let i = 0; i < values.length; i++) out[i] = Number(values[i]); // floats of 16 and 8 bits are stored as their bits
  return out;
}

/** A tensor in raw form. */
export function encodeTensor(tensor: TensorData, name = ""): TensorProto {
  const { data, shape, dtype } = tensor;
  return create(TENSOR, {
    name,
    dims: shape.map(BigInt),
    dataType: DTYPES[dtype].onnx,
    rawData: new Uint8Array(data.buffer as ArrayBuffer, data.byteOffset, data.byteLength), // shared memory is written all the same
  });
}
