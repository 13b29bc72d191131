// NumPy's .npy bytes ↔ tensor (format versions 1 to 3: numpy.lib.format).
import { DTYPES, type DType } from "../ir/dtype.ts";
import { HeddleError } from "../ir/error.ts";
import { isFloat8 } from "../ir/float8.ts";
import { elementCount, stridesOf, type TensorData } from "../ir/tensor.ts";

const MAGIC = "\x93NUMPY";

/** NumPy's type strings, without the byte order; of bfloat16 and float8 what ml_dtypes writes, which leaves out whether V1 is of the other kind, without a negative zero. */
const CODES: Partial<Record<DType, string>> = {
  f32: "f4", f64: "f8", f16: "f2", i8: "i1", u8: "u1", i16: "i2", u16: "u2", i32: "i4", u32: "u4", i64: "i8", u64: "u8", bool: "b1",
  bf16: "V2", f8e4m3fn: "V1", f8e5m2: "f1",
}; // biome-ignore format: a table

/** Bytes of a version 1 file, little endian, in C order. Throws HeddleError for types that a reader would take for others. */
export function writeNpy(tensor: TensorData): Uint8Array {
  const { dtype, shape, data } = tensor;
  const code = CODES[dtype];
  if (!code) throw new HeddleError("unsupported", `npy: ${dtype} has no NumPy type; convert it to f32`);
  const order = DTYPES[dtype].bytes === 1 && !isFloat8(dtype) ? "|" : "<";
  const sizes = shape.length === 1 ? `${shape[0]},` : shape.join(", ");
  const dict = `{'descr': '${order}${code}', 'fortran_order': False, 'shape': (${sizes}), }`;
  const total = Math.ceil((MAGIC.length + 4 + dict.length + 1) / 64) * 64; // data starts aligned
  const header = Buffer.alloc(total, " ");
  header.write(MAGIC, "latin1");
  header.writeUInt16LE(1, 6); // version 1.0
  header.writeUInt16LE(total - 10, 8);
  header.write(`${dict}`, 10, "latin1");
  header.write("\n", total - 1);
  return Buffer.concat([header, new Uint8Array(data.buffer, data.byteOffset, data.byteLength)]);
}

interface Header {
  readonly code: string;
  readonly isBig: boolean;
  readonly isFortran: boolean;
  readonly shape: readonly number[];
  /** Where the data starts. */
  readonly start: number;
}

function readHeader(bytes: Buffer, what: string): Header {
  const bad = (why: string) => new HeddleError("bad-input", `${what}: ${why}`);
  if (bytes.length < 12 || bytes.toString("latin1", 0, 6) !== MAGIC) throw bad("not an .npy file");
  const version = bytes[6];
  if (version < 1 || version > 3) throw bad(`.npy version ${version} is not known`);
  const length = version === 1 ? bytes.readUInt16LE(8) : bytes.readUInt32LE(8);
  const first = version === 1 ? 10 : 12;
  const start = first + length;
  if (start > bytes.length) throw bad("the file is cut short");
  if (length > 65536) throw bad("its header is longer than 64 KiB");
  const text = bytes.toString("latin1", first, start);
  const descr = /'descr'\s*:\s*'([<>|=]?)([a-zA-Z]\d+)'/.exec(text);
  const fortran = /'fortran_order'\s*:\s*(True|False)/.exec(text);
  const shape = /'shape'\s*:\s*\(([\d\s,]*)\)/.exec(text);
  if (!descr || !fortran || !shape) throw bad("its header is not understood (arrays of one plain type are)");
  const sizes = shape[1]
    .split(",")
    .filter((s) => s.trim() !== "")
    .map(Number);
  return { code: descr[2], isBig: descr[1] === ">", isFortran: fortran[1] === "True", shape: sizes, start };
}

export interface NpyLayout extends Omit<Header, "code"> {
  readonly dtype: DType;
}

/** What a file of `fileBytes` holds and where, from its first bytes. Throws HeddleError ("bad-input", "unsupported", "limit"). */
export function readNpyLayout(head: Uint8Array, fileBytes: number, what: string): NpyLayout {
  const { code, ...layout } = readHeader(Buffer.from(head.buffer, head.byteOffset, head.byteLength), what);
  const { shape, start } = layout;
  const dtype = (Object.keys(CODES) as DType[]).find((t) => CODES[t] === code);
  if (!dtype) throw new HeddleError("unsupported", `${what}: NumPy type ${code} is not supported (${Object.values(CODES).join(", ")} are)`);
  const wanted = elementCount(shape) * DTYPES[dtype].bytes;
  if (!Number.isSafeInteger(wanted) || shape.length > 64) throw new HeddleError("limit", `${what}: shape (${shape}) is too large`);
  if (fileBytes - start !== wanted)
    throw new HeddleError("bad-input", `${what}: ${fileBytes - start} bytes of data, ${dtype}[${shape}] has ${wanted}`);
  return { dtype, ...layout };
}

/** The tensor of an .npy file; `what` names it in errors. Throws HeddleError ("bad-input", "unsupported", "limit"). */
export function readNpy(bytes: Uint8Array, what = "npy"): TensorData {
  const { dtype, isBig, isFortran, shape, start } = readNpyLayout(bytes, bytes.length, what);
  const { array, bytes: size } = DTYPES[dtype];
  const count = elementCount(shape);
  if (count > 2 ** 31) throw new HeddleError("limit", `${what}: shape (${shape}) is too large`);
  const copy = new Uint8Array(bytes.subarray(start)); // aligned, and the caller's file may be freed
  if (isBig && size > 1) swapBytes(copy, size);
  const tensor: TensorData = { dtype, shape, data: new array(copy.buffer, 0, count) };
  return isFortran && shape.length > 1 ? fromFortran(tensor) : tensor;
}

function swapBytes(bytes: Uint8Array, size: number): void {
  for (let i = 0; i < bytes.length; i += size) bytes.subarray(i, i + size).reverse();
}

/** Column-major data → row-major. */
function fromFortran({ dtype, shape, data }: TensorData): TensorData {
  const out = new DTYPES[dtype].array(data.length);
  const strides = stridesOf(shape.toReversed()).reverse(); // of the data as stored
  const at = shape.map(() => 0);
  let from = 0;
  for (let i = 0; i < out.length; i++) {
    out[i] = data[from];
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      from += strides[axis];
      if (++at[axis] < shape[axis]) break;
      from -= shape[axis] * strides[axis];
      at[axis] = 0;
    }
  }
  return { dtype, shape, data: out };
}
