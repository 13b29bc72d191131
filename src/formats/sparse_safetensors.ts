// Sparse matrices ↔ tensors and metadata of a safetensors file: each array a tensor (name.values, name.pointers, …), sizes and format in the metadata.
import { DTYPES, type DType } from "../ir/dtype.ts";
import { HeddleError } from "../ir/error.ts";
import { elementCount, type TensorData } from "../ir/tensor.ts";
import { MACRO } from "../sparse/macro_blocks.ts";
import { FORMAT_NAMES, type SparseMatrix } from "../sparse/matrix.ts";
import { validate } from "../sparse/validate.ts";
import type { Safetensors } from "./safetensors.ts";

/** The metadata entry that holds, by name, what is not in arrays. */
const KEY = "heddle.sparse";

type Kind = SparseMatrix["kind"];

/** Arrays besides `values`. */
const ARRAYS: Readonly<Record<Kind, readonly string[]>> = {
  coo: ["row", "column"],
  csr: ["pointers", "column"],
  csc: ["pointers", "row"],
  bsr: ["pointers", "blockColumn"],
  "2:4": ["places"],
  csb: ["pointers", "row", "column"],
  bitmap: ["pointers", "prefix", "bits"],
  nibble: ["pointers", "prefix", "local"],
};

/** What a matrix is besides its arrays; the numbers of blocks follow from it. */
interface Description {
  readonly kind: Kind;
  readonly rows: number;
  readonly columns: number;
  readonly block?: number;
  readonly order?: string;
}

/** Tensors and metadata to be written with others. Nothing is copied. */
export function packSparse(matrices: Readonly<Record<string, SparseMatrix>>): Safetensors {
  const tensors = Object.entries(matrices).flatMap(([name, m]) =>
    arraysOf(m).map(([array, tensor]): [string, TensorData] => [`${name}.${array}`, tensor]),
  );
  const descriptions = Object.entries(matrices).map(([name, m]): [string, Description] => {
    const { kind, rows, columns } = m;
    const isBlocked = kind === "bsr" || kind === "csb";
    return [name, { kind, rows, columns, ...(isBlocked ? { block: m.block } : {}), ...(kind === "csb" ? { order: m.order } : {}) }];
  });
  return { tensors: Object.fromEntries(tensors), metadata: { [KEY]: JSON.stringify(Object.fromEntries(descriptions)) } };
}

function arraysOf(m: SparseMatrix): [string, TensorData][] {
  const values: TensorData = { dtype: m.dtype, shape: [m.values.length], data: m.values };
  const rest = Object.entries(m).filter(([name]) => ARRAYS[m.kind].includes(name));
  return [
    ["values", values],
    ...rest.map(([name, data]): [string, TensorData] => [name, { dtype: dtypeOf(data), shape: [data.length], data }]),
  ];
}

/** Of whole numbers; f16 and bf16, which look the same, are values only. */
const dtypeOf = (data: Uint8Array | Uint16Array | Uint32Array): DType =>
  data instanceof Uint8Array ? "u8" : data instanceof Uint16Array ? "u16" : "u32";

/** What a file holds: its sparse matrices, and all other tensors. */
export interface SparseFile {
  readonly matrices: Readonly<Record<string, SparseMatrix>>;
  readonly tensors: Readonly<Record<string, TensorData>>;
}

/** Takes the matrices out of a file's tensors, each validated. Throws HeddleError ("bad-input", "unsupported") naming the matrix. */
export function unpackSparse({ tensors, metadata }: Safetensors): SparseFile {
  const descriptions = parseDescriptions(metadata[KEY]);
  const matrices = descriptions.map(([name, description]): [string, SparseMatrix] => [name, matrixOf(name, description, tensors)]);
  const used = new Set(matrices.flatMap(([name, { kind }]) => ["values", ...ARRAYS[kind]].map((array) => `${name}.${array}`)));
  const rest = Object.entries(tensors).filter(([name]) => !used.has(name));
  return { matrices: Object.fromEntries(matrices), tensors: Object.fromEntries(rest) };
}

const isRecord = (value: unknown): value is Record<string, unknown> => typeof value === "object" && value !== null && !Array.isArray(value);

function parseDescriptions(json: string | undefined): [string, unknown][] {
  if (json === undefined) return [];
  try {
    const parsed: unknown = JSON.parse(json);
    if (isRecord(parsed)) return Object.entries(parsed);
  } catch {
    // said below
  }
  throw new HeddleError("bad-input", `safetensors: its metadata ${KEY} is not a JSON object`);
}

function matrixOf(name: string, description: unknown, tensors: Safetensors["tensors"]): SparseMatrix {
  const { kind, rows, columns, block, order } = checkedDescription(name, description);
  const arrays = ["values", ...ARRAYS[kind]].map((array) => [array, listOf(`${name}.${array}`, array === "values", tensors)] as const);
  const side = kind === "bitmap" || kind === "nibble" ? MACRO : block;
  const grid = side === undefined ? {} : { blockRows: Math.ceil(rows / side), blockColumns: Math.ceil(columns / side) };
  const { dtype } = tensors[`${name}.values`];
  const given = {
    kind,
    rows,
    columns,
    dtype,
    ...(block === undefined ? {} : { block }),
    ...(order === undefined ? {} : { order }),
    ...grid,
  };
  try {
    return validate({ ...given, ...Object.fromEntries(arrays) } as SparseMatrix); // whether it is one, validate says
  } catch (cause) {
    if (cause instanceof HeddleError)
      throw new HeddleError(cause.code, `safetensors: ${JSON.stringify(name)}: ${cause.message}`, { cause });
    throw cause;
  }
}

function checkedDescription(name: string, description: unknown): Description {
  const bad = (why: string) => new HeddleError("bad-input", `safetensors: sparse matrix ${JSON.stringify(name)}: ${why}`);
  if (!isRecord(description)) throw bad("its description is not an object");
  const { kind, rows, columns, block, order } = description;
  if (typeof kind !== "string" || !Object.hasOwn(FORMAT_NAMES, kind)) throw bad(`no format is called ${JSON.stringify(kind)}`);
  if (typeof rows !== "number" || typeof columns !== "number") throw bad("rows and columns are not numbers");
  const isBlocked = kind === "bsr" || kind === "csb";
  if (isBlocked ? typeof block !== "number" : block !== undefined)
    throw bad(isBlocked ? "block is not a number" : "the format has no block");
  if ((kind === "csb") !== (typeof order === "string")) throw bad(kind === "csb" ? "order is not a text" : "the format has no order");
  return { kind: kind as Kind, rows, columns, block: block as number | undefined, order: order as string | undefined }; // checked above
}

function listOf(name: string, isValues: boolean, tensors: Safetensors["tensors"]): TensorData["data"] {
  const bad = (why: string) => new HeddleError("bad-input", `safetensors: tensor ${JSON.stringify(name)} ${why}`);
  if (!Object.hasOwn(tensors, name)) throw bad("is missing");
  const { dtype, shape, data } = tensors[name];
  if (!isValues && DTYPES[dtype].kind !== "uint") throw bad(`is of ${dtype}, wanted whole numbers without sign`);
  if (shape.length !== 1) throw bad(`has the shape (${shape}), wanted a list of ${elementCount(shape)}`);
  return data;
}
