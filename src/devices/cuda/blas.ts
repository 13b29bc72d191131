// Matrix products by cuBLASLt: a product's description with its tail → a call on a stream, by the fastest of the algorithms that the library proposes.
import { HeddleError } from "../../ir/error.ts";
import type { LibraryGemm } from "../../ir/library_kernel.ts";
import { type CudaApi, type Handle, libraryNames } from "./driver.ts";
import { fastestOf, type LibraryCall } from "./fastest.ts";
import { keep, readKept } from "./kept.ts";

/** Functions of cuBLASLt, which return a cublasStatus_t. */
const FUNCTIONS = {
  cublasLtGetVersion: [],
  cublasLtCreate: ["void *"],
  cublasLtDestroy: ["uint64"],
  cublasLtMatmulDescCreate: ["void *", "int", "int"],
  cublasLtMatmulDescSetAttribute: ["uint64", "int", "void *", "uint64"],
  cublasLtMatmulDescDestroy: ["uint64"],
  cublasLtMatrixLayoutCreate: ["void *", "int", "uint64", "uint64", "int64"],
  cublasLtMatrixLayoutSetAttribute: ["uint64", "int", "void *", "uint64"],
  cublasLtMatrixLayoutDestroy: ["uint64"],
  cublasLtMatmulPreferenceCreate: ["void *"],
  cublasLtMatmulPreferenceSetAttribute: ["uint64", "int", "void *", "uint64"],
  cublasLtMatmulPreferenceDestroy: ["uint64"],
  cublasLtMatmulAlgoGetHeuristic: ["uint64", "uint64", "uint64", "uint64", "uint64", "uint64", "uint64", "int", "void *", "void *"],
  cublasLtMatmulAlgoCheck: ["uint64", "uint64", "uint64", "uint64", "uint64", "uint64", "void *", "void *"],
  cublasLtMatmul: [
    "uint64", "uint64", "void *", "uint64", "uint64", "uint64", "uint64", "void *", "uint64", "uint64", "uint64", "uint64", "void *", "uint64", "uint64", "uint64",
  ], // biome-ignore format: handle, description, alpha, A, layout, B, layout, beta, C, layout, D, layout, algorithm, workspace, bytes, stream
} as const;
type Name = keyof typeof FUNCTIONS;

/** Numbers of the library's enumerations. */
const DATA: Readonly<Record<LibraryGemm["type" | "outType"], number>> = { f32: 0, f16: 2, i8: 3, i32: 10, bf16: 14, f8e4m3fn: 28 };
const COMPUTE = { f32: 68, i32: 72, tf32: 77 } as const;
const DESCRIPTION = {
  transposeA: 3,
  transposeB: 4,
  epilogue: 7,
  bias: 8,
  auxiliary: 11,
  auxiliaryStride: 12,
  scaleA: 17,
  scaleB: 18,
} as const;
/** Bits of an epilogue; none of them: 1. */
const EPILOGUE = { none: 1, relu: 2, bias: 4 } as const;
const GELU_EPILOGUE = { value: 32, stored: 160, slope: 192 } as const;
const LAYOUT = { batchCount: 5, batchStride: 6 } as const;
const PREFERENCE = { workspaceBytes: 1 } as const;
/** A proposal: 64 bytes of algorithm, bytes of workspace, status, waves, four reserved words. */
const PROPOSAL_BYTES = 96;
const ALGORITHM_BYTES = 64;
const PROPOSALS = 8;
/** What Hopper's kernels ask for at most. */
const WORKSPACE_BYTES = 32 << 20;

/** The descriptors of a product. */
interface Descriptors {
  readonly description: Handle;
  readonly layouts: { readonly right: Handle; readonly left: Handle; readonly out: Handle };
}

export class CudaBlas {
  private readonly handle: Handle;
  private readonly workspace: Handle;
  /** The fastest algorithm of each product. */
  private readonly algorithms = new Map<string, Uint8Array>();

  private constructor(
    private readonly cuda: CudaApi,
    private readonly functions: ReadonlyMap<Name, (...args: readonly unknown[]) => number>,
    private readonly stream: Handle,
    private readonly gpu: string,
  ) {
    this.handle = this.create("cublasLtCreate");
    this.workspace = cuda.handle("cuMemAlloc_v2", WORKSPACE_BYTES);
  }

  /** All work goes to the stream. `gpu`: equal where the same algorithms are the fastest. Null where the library is not there. */
  static open(cuda: CudaApi, stream: Handle, gpu: string): CudaBlas | null {
    const functions = cuda.library(libraryNames("libcublasLt", ["", ".13", ".12", ".11"]), FUNCTIONS);
    return functions && new CudaBlas(cuda, functions, stream, gpu);
  }

  private attempt(name: Name, ...args: readonly unknown[]): number {
    return this.functions.get(name)!(...args); // the table's
  }
  private check(name: Name, ...args: readonly unknown[]): void {
    const status = this.attempt(name, ...args);
    if (status !== 0) throw new HeddleError("io", `device cuda: ${name} failed with status ${status}`);
  }
  private create(name: Name, ...rest: readonly unknown[]): Handle {
    const out = new BigUint64Array(1);
    this.check(name, out, ...rest);
    return out[0];
  }

  /** A product at these addresses, ready to be called; where it is not known which of the library's proposals is the fastest, they are measured there. */
  prepare(gemm: LibraryGemm, addresses: readonly Handle[]): LibraryCall {
    const { name: _, params: __, ...shape } = gemm;
    const made = this.descriptors(gemm, addresses);
    const key = JSON.stringify(["gemm", this.gpu, this.attempt("cublasLtGetVersion"), shape]);
    const best = this.algorithms.get(key) ?? this.keptAlgorithm(key, made) ?? this.fastest(key, gemm, made, addresses);
    this.algorithms.set(key, best);
    return {
      call: () => this.multiply(gemm, made, addresses, best),
      free: () => {
        for (const layout of Object.values(made.layouts)) this.check("cublasLtMatrixLayoutDestroy", layout);
        this.check("cublasLtMatmulDescDestroy", made.description);
      },
    };
  }

  /** What another process found; null: nothing, or what this library cannot do after all. */
  private keptAlgorithm(key: string, { description, layouts: { right, left, out } }: Descriptors): Uint8Array | null {
    const kept = readKept("plan", key);
    if (kept?.length !== ALGORITHM_BYTES) return null;
    const algorithm = Uint8Array.from(kept);
    const result = new Uint8Array(PROPOSAL_BYTES);
    const status = this.attempt("cublasLtMatmulAlgoCheck", this.handle, description, right, left, out, out, algorithm, result);
    const [workspaceBytes] = new BigUint64Array(result.buffer, ALGORITHM_BYTES, 1);
    return status === 0 && workspaceBytes <= WORKSPACE_BYTES ? algorithm : null;
  }

  private fastest(key: string, gemm: LibraryGemm, made: Descriptors, addresses: readonly Handle[]): Uint8Array {
    const proposals = this.proposals(made, gemm);
    const calls = proposals.map((proposal) => ({ call: () => this.multiply(gemm, made, addresses, proposal) }));
    const algorithm = proposals[fastestOf(this.cuda, this.stream, calls)];
    keep("plan", key, algorithm);
    return algorithm;
  }

  /** Row-major a (m,k) · b (k,n) is column-major bᵀ · aᵀ: the library's A is our b, and its rows are our columns. */
  private descriptors(gemm: LibraryGemm, addresses: readonly Handle[]): Descriptors {
    const { m, n, k, batch, tail } = gemm;
    const description = this.create("cublasLtMatmulDescCreate", COMPUTE[sumsOf(gemm)], DATA[isInteger(gemm) ? "i32" : "f32"]);
    const describe = (attribute: number, value: Int32Array | BigUint64Array): void =>
      this.check("cublasLtMatmulDescSetAttribute", description, attribute, value, value.byteLength);
    describe(DESCRIPTION.transposeA, Int32Array.of(Number(gemm.isRightTransposed)));
    describe(DESCRIPTION.transposeB, Int32Array.of(Number(gemm.isLeftTransposed)));
    const epilogue = (tail.hasBias ? EPILOGUE.bias : 0) | (tail.isRelu ? EPILOGUE.relu : 0) | (tail.gelu ? GELU_EPILOGUE[tail.gelu] : 0);
    describe(DESCRIPTION.epilogue, Int32Array.of(epilogue || EPILOGUE.none));
    if (tail.hasBias) describe(DESCRIPTION.bias, BigUint64Array.of(addresses[2]));
    if (gemm.type === "f8e4m3fn") {
      describe(DESCRIPTION.scaleB, BigUint64Array.of(addresses[2]));
      describe(DESCRIPTION.scaleA, BigUint64Array.of(addresses[3]));
    }
    if (tail.gelu === "stored" || tail.gelu === "slope") {
      describe(DESCRIPTION.auxiliary, BigUint64Array.of(addresses[addresses.length - 2]));
      describe(DESCRIPTION.auxiliaryStride, BigUint64Array.of(BigInt(n)));
    }
    const matrix = (type: keyof typeof DATA, rows: number, columns: number, stride: number): Handle => {
      const layout = this.create("cublasLtMatrixLayoutCreate", DATA[type], rows, columns, rows);
      this.check("cublasLtMatrixLayoutSetAttribute", layout, LAYOUT.batchCount, Int32Array.of(batch), 4);
      this.check("cublasLtMatrixLayoutSetAttribute", layout, LAYOUT.batchStride, BigInt64Array.of(BigInt(stride)), 8);
      return layout;
    };
    const right = gemm.isRightTransposed ? matrix(gemm.type, k, n, gemm.rightStride) : matrix(gemm.type, n, k, gemm.rightStride);
    const left = gemm.isLeftTransposed ? matrix(gemm.type, m, k, gemm.leftStride) : matrix(gemm.type, k, m, gemm.leftStride);
    return { description, layouts: { right, left, out: matrix(gemm.outType, n, m, m * n) } };
  }

  private multiply(gemm: LibraryGemm, { description, layouts }: Descriptors, addresses: readonly Handle[], algorithm: Uint8Array): void {
    const { right, left, out } = layouts;
    const { tail } = gemm;
    const [one, zero] = isInteger(gemm) ? INTEGERS : FLOATS;
    const [a, b] = addresses;
    const to = addresses[addresses.length - 1];
    const added = tail.hasAdded ? addresses[addresses.length - 2] : to;
    this.check(
      "cublasLtMatmul",
      this.handle, description, one, b, right, a, left, tail.hasAdded ? one : zero, added, out, to, out,
      algorithm, this.workspace, WORKSPACE_BYTES, this.stream,
    ); // biome-ignore format: in the order of FUNCTIONS
  }

  private proposals({ description, layouts: { right, left, out } }: Descriptors, gemm: LibraryGemm): Uint8Array[] {
    const preference = this.create("cublasLtMatmulPreferenceCreate");
    const bytes = BigUint64Array.of(BigInt(WORKSPACE_BYTES));
    this.check("cublasLtMatmulPreferenceSetAttribute", preference, PREFERENCE.workspaceBytes, bytes, 8);
    const found = new Uint8Array(PROPOSALS * PROPOSAL_BYTES);
    const count = new Int32Array(1);
    const matrices = [right, left, out, out];
    this.check("cublasLtMatmulAlgoGetHeuristic", this.handle, description, ...matrices, preference, PROPOSALS, found, count);
    this.check("cublasLtMatmulPreferenceDestroy", preference);
    if (count[0] === 0)
      throw new HeddleError(
        "unsupported",
        `device cuda: cuBLASLt has no algorithm for ${gemm.name} (${gemm.m}×${gemm.k} by ${gemm.k}×${gemm.n})`,
      );
    return Array.from({ length: count[0] }, (_, i) => found.subarray(i * PROPOSAL_BYTES, i * PROPOSAL_BYTES + ALGORITHM_BYTES));
  }

  close(): void {
    this.check("cublasLtDestroy", this.handle);
    this.cuda.driver("cuMemFree_v2", this.workspace);
  }
}

const isInteger = ({ type }: LibraryGemm): boolean => type === "i8";
const sumsOf = (gemm: LibraryGemm): keyof typeof COMPUTE => (isInteger(gemm) ? "i32" : gemm.roundsF32 ? "tf32" : "f32");

/** One and zero in the type of the sums. */
const FLOATS = [Float32Array.of(1), Float32Array.of(0)];
const INTEGERS = [Int32Array.of(1), Int32Array.of(0)];
