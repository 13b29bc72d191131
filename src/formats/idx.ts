// IDX bytes (the format of MNIST's files), gzipped or not ↔ tensor.
import { DTYPES, type DType } from "../ir/dtype.ts";
import { HeddleError } from "../ir/error.ts";
import { bytesOf, elementCount, type TensorData } from "../ir/tensor.ts";
import { gunzip } from "./gunzip.ts";

const CODES: Partial<Record<DType, number>> = { u8: 0x08, i8: 0x09, i16: 0x0b, i32: 0x0c, f32: 0x0d, f64: 0x0e };

/** The tensor of an IDX file; `what` names it in errors. Throws HeddleError ("bad-input", "limit"). */
export function readIdx(file: Uint8Array, what = "idx"): TensorData {
  const bytes = gunzip(file, what);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const bad = (why: string) => new HeddleError("bad-input", `${what}: ${why}`);
  if (bytes.length < 4 || view.getUint16(0) !== 0) throw bad("not an IDX file");
  const dtype = (Object.keys(CODES) as DType[]).find((t) => CODES[t] === bytes[2]);
  if (!dtype) throw bad(`not an IDX file (element type ${bytes[2]})`);
  const rank = bytes[3];
  const start = 4 + 4 * rank;
  if (bytes.length < start) throw bad("the file is cut short");
  const shape = Array.from({ length: rank }, (_, axis) => view.getUint32(4 + 4 * axis));
  const size = DTYPES[dtype].bytes;
  const wanted = elementCount(shape) * size;
  if (bytes.length - start !== wanted) throw bad(`${bytes.length - start} bytes of data, ${dtype}[${shape}] has ${wanted}`);
  const data = new Uint8Array(bytes.subarray(start)); // aligned, and the caller's file may be freed
  swapBytes(data, size);
  return { dtype, shape, data: new DTYPES[dtype].array(data.buffer) };
}

/** The bytes of an IDX file, not gzipped. Throws HeddleError for types that IDX does not have. */
export function writeIdx(tensor: TensorData): Uint8Array {
  const { dtype, shape } = tensor;
  const code = CODES[dtype];
  if (!code) throw new HeddleError("unsupported", `idx: ${dtype} has no IDX type (${Object.keys(CODES)} have)`);
  if (shape.length > 255) throw new HeddleError("unsupported", `idx: ${shape.length} dimensions, the format has up to 255`);
  const start = 4 + 4 * shape.length;
  const data = bytesOf(tensor);
  const bytes = new Uint8Array(start + data.length);
  bytes.set([0, 0, code, shape.length]);
  const view = new DataView(bytes.buffer);
  for (const [axis, n] of shape.entries()) view.setUint32(4 + 4 * axis, n);
  bytes.set(data, start);
  swapBytes(bytes.subarray(start), DTYPES[dtype].bytes);
  return bytes;
}

/** IDX is big-endian. */
function swapBytes(bytes: Uint8Array, size: number): void {
  if (size === 1) return;
  for (let i = 0; i < bytes.length; i += size) bytes.subarray(i, i + size).reverse();
}
