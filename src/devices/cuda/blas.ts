// Matrix products by cuBLASLt: a product's description → a call on a stream, with the fastest of the algorithms that the library proposes.
import { HeddleError } from "../../ir/error.ts";
import type { LibraryGemm, OperandType } from "../../ir/library_kernel.ts";
import { type CudaApi, type Handle, libraryNames } from "./driver.ts";

/** Functions of cuBLASLt, which return a cublasStatus_t. */
const FUNCTIONS = {
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
  cublasLtMatmul: [
    "uint64", "uint64", "void *", "uint64", "uint64", "uint64", "uint64", "void *", "uint64", "uint64", "uint64", "uint64", "void *", "uint64", "uint64", "uint64",
  ], // biome-ignore format: handle, description, alpha, A, layout, B, layout, beta, C, layout, D, layout, algorithm, workspace, bytes, stream
} as const;
type Name = keyof typeof FUNCTIONS;

/** Numbers of the library's enumerations. */
const DATA: Readonly<Record<OperandType, number>> = { f32: 0, f16: 2, bf16: 14 };
const COMPUTE_F32 = 68;
const DESCRIPTION = { transposeA: 3, transposeB: 4 } as const;
const LAYOUT = { batchCount: 5, batchStride: 6 } as const;
const PREFERENCE = { workspaceBytes: 1 } as const;
/** A proposal: 64 bytes of algorithm, bytes of workspace, status, waves, four reserved words. */
const PROPOSAL_BYTES = 96;
const PROPOSALS = 8;
/** What Hopper's kernels ask for at most. */
const WORKSPACE_BYTES = 32 << 20;

/** A product ready to be called; its objects live as long as it does. */
export interface PreparedGemm {
  call(stream: Handle): void;
  free(): void;
}

export class CudaBlas {
  private readonly handle: Handle;
  private readonly workspace: Handle;

  private constructor(
    private readonly cuda: CudaApi,
    private readonly functions: ReadonlyMap<Name, (...args: readonly unknown[]) => number>,
  ) {
    this.handle = this.create("cublasLtCreate");
    this.workspace = cuda.handle("cuMemAlloc_v2", WORKSPACE_BYTES);
  }

  /** Null where the library is not there. */
  static open(cuda: CudaApi): CudaBlas | null {
    const functions = cuda.library(libraryNames("libcublasLt", ["", ".13", ".12", ".11"]), FUNCTIONS);
    return functions && new CudaBlas(cuda, functions);
  }

  private check(name: Name, ...args: readonly unknown[]): void {
    const status = this.functions.get(name)!(...args); // the table's
    if (status !== 0) throw new HeddleError("io", `device cuda: ${name} failed with status ${status}`);
  }
  private create(name: Name, ...rest: readonly unknown[]): Handle {
    const out = new BigUint64Array(1);
    this.check(name, out, ...rest);
    return out[0];
  }

  /** Row-major a (m,k) · b (k,n) is column-major bᵀ · aᵀ: the library's A is our b. */
  prepare(gemm: LibraryGemm, addresses: { a: Handle; b: Handle; out: Handle }, stream: Handle): PreparedGemm {
    const { m, n, k, batch } = gemm;
    const description = this.create("cublasLtMatmulDescCreate", COMPUTE_F32, DATA.f32);
    const describe = (attribute: number, value: Int32Array): void =>
      this.check("cublasLtMatmulDescSetAttribute", description, attribute, value, value.byteLength);
    describe(DESCRIPTION.transposeA, Int32Array.of(Number(gemm.isRightTransposed)));
    describe(DESCRIPTION.transposeB, Int32Array.of(Number(gemm.isLeftTransposed)));
    const matrix = (type: OperandType, rows: number, columns: number, stride: number): Handle => {
      const layout = this.create("cublasLtMatrixLayoutCreate", DATA[type], rows, columns, rows);
      this.check("cublasLtMatrixLayoutSetAttribute", layout, LAYOUT.batchCount, Int32Array.of(batch), 4);
      this.check("cublasLtMatrixLayoutSetAttribute", layout, LAYOUT.batchStride, BigInt64Array.of(BigInt(stride)), 8);
      return layout;
    };
    const right = gemm.isRightTransposed ? matrix(gemm.type, k, n, gemm.rightStride) : matrix(gemm.type, n, k, gemm.rightStride);
    const left = gemm.isLeftTransposed ? matrix(gemm.type, m, k, gemm.leftStride) : matrix(gemm.type, k, m, gemm.leftStride);
    const out = matrix(gemm.outType, n, m, m * n);
    const [one, zero] = [Float32Array.of(1), Float32Array.of(0)];
    const call = (algorithm: Uint8Array, on: Handle): void =>
      this.check(
        "cublasLtMatmul",
        this.handle, description, one, addresses.b, right, addresses.a, left, zero, addresses.out, out, addresses.out, out,
        algorithm, this.workspace, WORKSPACE_BYTES, on,
      ); // biome-ignore format: in the order of FUNCTIONS
    const proposals = this.proposals(description, right, left, out, gemm);
    const best = this.fastest(proposals, call, stream);
    return {
      call: (on) => call(best, on),
      free: () => {
        for (const layout of [right, left, out]) this.check("cublasLtMatrixLayoutDestroy", layout);
        this.check("cublasLtMatmulDescDestroy", description);
      },
    };
  }

  private proposals(description: Handle, right: Handle, left: Handle, out: Handle, gemm: LibraryGemm): Uint8Array[] {
    const preference = this.create("cublasLtMatmulPreferenceCreate");
    const bytes = BigUint64Array.of(BigInt(WORKSPACE_BYTES));
    this.check("cublasLtMatmulPreferenceSetAttribute", preference, PREFERENCE.workspaceBytes, bytes, 8);
    const found = new Uint8Array(PROPOSALS * PROPOSAL_BYTES);
    const count = new Int32Array(1);
    const layouts = [right, left, out, out];
    this.check("cublasLtMatmulAlgoGetHeuristic", this.handle, description, ...layouts, preference, PROPOSALS, found, count);
    this.check("cublasLtMatmulPreferenceDestroy", preference);
    if (count[0] === 0)
      throw new HeddleError(
        "unsupported",
        `device cuda: cuBLASLt has no algorithm for ${gemm.name} (${gemm.m}×${gemm.k} by ${gemm.k}×${gemm.n})`,
      );
    return Array.from({ length: count[0] }, (_, i) => found.subarray(i * PROPOSAL_BYTES, i * PROPOSAL_BYTES + 64));
  }

  /** By a few runs of each, after one that does not count. */
  private fastest(proposals: readonly Uint8Array[], call: (algorithm: Uint8Array, stream: Handle) => void, stream: Handle): Uint8Array {
    if (proposals.length === 1) return proposals[0];
    const { cuda } = this;
    const [from, to] = [cuda.handle("cuEventCreate", 0), cuda.handle("cuEventCreate", 0)];
    const elapsed = new Float32Array(1);
    const time = (algorithm: Uint8Array): number => {
      call(algorithm, stream);
      cuda.driver("cuEventRecord", from, stream);
      for (let i = 0; i < TRIALS; i++) call(algorithm, stream);
      cuda.driver("cuEventRecord", to, stream);
      cuda.driver("cuStreamSynchronize", stream);
      cuda.driver("cuEventElapsedTime", elapsed, from, to);
      return elapsed[0];
    };
    const times = proposals.map(time);
    for (const event of [from, to]) cuda.driver("cuEventDestroy_v2", event);
    return proposals[times.indexOf(Math.min(...times))];
  }

  close(): void {
    this.check("cublasLtDestroy", this.handle);
    this.cuda.driver("cuMemFree_v2", this.workspace);
  }
}

const TRIALS = 3;
