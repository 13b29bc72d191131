// What is timed: our dense product, the sparse kernels and plain CSR, each as launches over memory that is already filled.
import type { CpuDevice, LaunchList, Memory } from "../../src/devices/cpu.ts";
import type { Kernel } from "../../src/ir/kernel.ts";
import { fromNumbers } from "../../src/ir/tensor.ts";
import { noEpilogue } from "../../src/kernels/epilogue.ts";
import { type GemmShape, gemmKernel, packedElements, packRight, scheduleGemm } from "../../src/kernels/gemm.ts";
import { type Direction, groupsOf, indexOf, shareBlockRows } from "../../src/kernels/sparse_groups.ts";
import { sparseOrderKernel } from "../../src/kernels/sparse_order.ts";
import { sparseProductKernel, sparseProductShape } from "../../src/kernels/sparse_product.ts";
import { sparseRowsKernel } from "../../src/kernels/sparse_rows.ts";
import { shareCsbRows, sparseSampledKernel, sparseSampledShape } from "../../src/kernels/sparse_sampled.ts";
import { sparseVectorKernel, vectorIndexOf, vectorMatrixOf } from "../../src/kernels/sparse_vector.ts";
import { cutByNonzeros } from "../../src/sparse/balance.ts";
import { type Coo, cooFromDense, transposeCoo } from "../../src/sparse/coo.ts";
import { type Csb, csbFromCoo } from "../../src/sparse/csb.ts";
import { csrFromCoo } from "../../src/sparse/csr.ts";
import type { Algorithm, Numbers, Operand } from "./algorithm.ts";

export type Product = "forward" | "dataGradient" | "weightGradient";

export interface Problem {
  readonly rows: number;
  readonly columns: number;
  readonly n: number;
  readonly w: Float32Array;
  /** (columns, n) and (rows, n). */
  readonly x: Float32Array;
  readonly g: Float32Array;
}

export interface Contestant {
  readonly name: string;
  run(): void;
  /** Its result; that of a weight gradient in the order of the matrix's nonzeros, dense for "dense". */
  result(): Float32Array;
}

/** Contestants over one problem; `close` frees all they have. */
export class Ring {
  private made: Csb | undefined;
  private readonly memories: Memory[] = [];
  private readonly lists: LaunchList[] = [];

  constructor(
    private readonly device: CpuDevice,
    private readonly problem: Problem,
    private readonly block: number,
  ) {}

  /** Made when it is first asked for: large matrices take seconds. */
  get csb(): Csb {
    const { rows, columns, w } = this.problem;
    this.made ??= csbFromCoo(cooFromDense(fromNumbers("f32", [rows, columns], w)), { block: this.block });
    return this.made;
  }

  async contestants(product: Product): Promise<Contestant[]> {
    const csr = product === "weightGradient" ? [] : [await this.rows(product)];
    return [await this.dense(product), await this.sparse(product), ...csr];
  }

  /** W·X by any algorithm, over a matrix of the problem's sizes. */
  algorithm({ name, steps }: Algorithm, w: Coo): Promise<Contestant> {
    const output = this.empty(4 * this.problem.rows * this.problem.n);
    const shared = new Map<Operand, Memory>([["y", output]]);
    const memoryOf = (operand: Operand): Memory => {
      const known = shared.get(operand);
      if (known) return known;
      const memory =
        operand === "x"
          ? this.put(this.problem.x)
          : ArrayBuffer.isView(operand)
            ? this.put(operand)
            : this.empty((operand as { bytes: number }).bytes);
      shared.set(operand, memory);
      return memory;
    };
    const run = steps(w, this.problem.n, this.device).map(({ kernel, operands }) => [kernel, operands.map(memoryOf)] as const);
    return this.contestant(name, run, output);
  }

  close(): void {
    for (const list of this.lists) list.free();
    for (const memory of this.memories) memory.free();
  }

  private empty(bytes: number): Memory {
    const memory = this.device.alloc(bytes);
    this.memories.push(memory);
    memory.view().fill(0); // pages that were never written all lie on one
    return memory;
  }
  private put(data: Numbers): Memory {
    const memory = this.empty(data.byteLength);
    memory.view().set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
    return memory;
  }
  /** Kernels one after another, the last of which writes `output`. */
  private async contestant(name: string, steps: readonly (readonly [Kernel, readonly Memory[]])[], output: Memory): Promise<Contestant> {
    const launches = steps.map(([, memories], kernel) => ({ kernel, args: memories.map((m) => m.address) }));
    const list = await this.device.load(
      steps.map(([kernel]) => kernel),
      launches,
    );
    this.lists.push(list);
    return {
      name,
      run: () => list.run(0, steps.length),
      result: () => {
        const bytes = output.view();
        return new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4).slice();
      },
    };
  }

  /** Our own product of dense matrices, its right operand packed beforehand. One column: the weights are packed, as a layer has them. */
  dense(product: Product): Promise<Contestant> {
    const { rows, columns, n, w, x, g } = this.problem;
    if (product === "weightGradient") return this.gemm(rows, columns, n, g, x, { k: 1, n });
    if (n === 1)
      return product === "forward"
        ? this.gemm(1, rows, columns, x, w, { k: 1, n: columns })
        : this.gemm(1, columns, rows, g, w, { k: columns, n: 1 });
    if (product === "forward") return this.gemm(rows, n, columns, w, x, { k: n, n: 1 });
    const turned = new Float32Array(w.length);
    for (let r = 0; r < rows; r++) for (let c = 0; c < columns; c++) turned[c * rows + r] = w[r * columns + c];
    return this.gemm(columns, n, rows, turned, g, { k: n, n: 1 });
  }
  private gemm(
    m: number,
    n: number,
    k: number,
    left: Float32Array,
    right: Float32Array,
    strides: { k: number; n: number },
  ): Promise<Contestant> {
    const { target, threads } = this.device;
    const shape: GemmShape = { batch: 1, m, n, k, left: { batch: 0, row: k }, isRightBatched: false, hasBias: false };
    const schedule = scheduleGemm(shape, target);
    const packed = new Float32Array(packedElements(shape, schedule, target));
    packRight(right, strides, shape, schedule, target, packed);
    const kernel = gemmKernel("dense", shape, schedule, noEpilogue({ dtype: "f32", shape: [m, n] }), target, threads);
    const output = this.empty(4 * m * n);
    return this.contestant("dense", [[kernel, [this.put(left), this.put(packed), output]]], output);
  }

  private sparse(product: Product): Promise<Contestant> {
    if (product === "weightGradient") return this.sampled();
    return product === "forward" && this.problem.n === 1 ? this.vector() : this.groups(product === "forward" ? "forward" : "transposed");
  }
  /** Forward, the values lie in the kernel's order; transposed, they are brought into it each time. */
  private groups(direction: Direction): Promise<Contestant> {
    const { device, csb, problem } = this;
    const { target, threads } = device;
    const groups = groupsOf(csb, direction, threads);
    const type = { dtype: "f32" as const, shape: [groups.rows, problem.n] };
    const kernel = sparseProductKernel("sparse", sparseProductShape(groups, problem.n), noEpilogue(type), target, threads);
    const output = this.empty(4 * groups.rows * problem.n);
    const isForward = direction === "forward";
    const values = isForward ? this.put(this.inOrder(groups.place)) : this.empty(4 * groups.place.length);
    const order = sparseOrderKernel("order", { nonzeros: csb.values.length, length: groups.place.length }, target, threads);
    const index = [...indexOf(groups), shareBlockRows(groups, threads)].map((a) => this.put(a));
    const multiply = [kernel, [values, ...index, this.put(isForward ? problem.x : problem.g), output]] as const;
    if (isForward) return this.contestant("csb", [multiply], output);
    return this.contestant("csb", [[order, [this.put(this.values()), this.put(groups.place), values]], multiply], output);
  }
  private vector(): Promise<Contestant> {
    const { device, csb, problem } = this;
    const { target, threads } = device;
    const w = vectorMatrixOf(csb, target);
    const kernel = sparseVectorKernel("sparse", w.shape, noEpilogue({ dtype: "f32", shape: [1, csb.rows] }), target, threads);
    const output = this.empty(4 * csb.rows);
    const inputs = [this.inOrder(w.place), ...vectorIndexOf(w, threads), problem.x];
    return this.contestant("csb", [[kernel, [...inputs.map((a) => this.put(a)), output]]], output);
  }
  private sampled(): Promise<Contestant> {
    const { device, csb, problem } = this;
    const { target, threads } = device;
    const kernel = sparseSampledKernel("sparse", sparseSampledShape(csb, problem.n), target, threads);
    const output = this.empty(4 * csb.values.length);
    const inputs = [csb.pointers, csb.row, csb.column, shareCsbRows(csb, threads), problem.g, problem.x];
    return this.contestant("csb", [[kernel, [...inputs.map((a) => this.put(a)), output]]], output);
  }

  /** Plain CSR, of a transposed copy for the data gradient. */
  private rows(product: Product): Promise<Contestant> {
    const { rows, columns, n, w, x, g } = this.problem;
    const coo = cooFromDense(fromNumbers("f32", [rows, columns], w));
    const csr = csrFromCoo(product === "forward" ? coo : transposeCoo(coo));
    const { target, threads } = this.device;
    const shape = { rows: csr.rows, depth: csr.columns, n, nonzeros: csr.values.length };
    const output = this.empty(4 * csr.rows * n);
    const inputs = [
      csr.pointers,
      csr.column,
      csr.values as Float32Array,
      cutByNonzeros(csr.pointers, threads),
      product === "forward" ? x : g,
    ];
    const kernel = sparseRowsKernel("csr", shape, target, threads);
    return this.contestant("csr", [[kernel, [...inputs.map((a) => this.put(a)), output]]], output);
  }

  private values(): Float32Array {
    return this.csb.values as Float32Array; // made of float32 above
  }
  private inOrder(place: Int32Array): Float32Array {
    const values = this.values();
    return Float32Array.from(place, (p) => (p < 0 ? 0 : values[p]));
  }
}
