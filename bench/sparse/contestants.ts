// What is timed: our dense product, the sparse kernels and plain CSR, each as launches over memory that is already filled.
import type { CpuDevice, LaunchList, Memory } from "../../src/devices/cpu.ts";
import type { Kernel } from "../../src/ir/kernel.ts";
import { noEpilogue } from "../../src/kernels/epilogue.ts";
import { columnSharers, type GemmShape, gemmKernel, packedElements, scheduleGemm } from "../../src/kernels/gemm.ts";
import { packKernel } from "../../src/kernels/pack.ts";
import { channelsLast } from "../../src/kernels/sparse_panel.ts";
import { sparseProductKernel } from "../../src/kernels/sparse_product.ts";
import { type SparseProductShape, sparseProductShape, spreadProductShape } from "../../src/kernels/sparse_product_shape.ts";
import { sparseRowsKernel } from "../../src/kernels/sparse_rows.ts";
import { sparseSampledKernel } from "../../src/kernels/sparse_sampled.ts";
import type { InTiles } from "../../src/kernels/sparse_side.ts";
import { bytesOfTiles, type Tiles, tileBytes, tilesOf } from "../../src/kernels/sparse_tiles.ts";
import { turnedKernels, turnedSumBytes } from "../../src/kernels/sparse_turned.ts";
import { sparseVectorKernel } from "../../src/kernels/sparse_vector.ts";
import type { TrialCall } from "../../src/run/trial.ts";
import type { Coo } from "../../src/sparse/coo.ts";
import type { Algorithm, Numbers, Operand } from "./algorithm.ts";
import { gemmShape, turned, type Weights } from "./weights.ts";

export type Product = "forward" | "dataGradient" | "weightGradient";

/** The dense operands: x (columns, n) and the gradient g (rows, n). */
export interface Operands {
  readonly n: number;
  readonly x: Float32Array;
  readonly g: Float32Array;
}

export interface Contestant {
  readonly name: string;
  /** What it keeps of the matrix, in bytes; 0: nothing. */
  readonly bytes: number;
  /** Milliseconds that this took to make. */
  readonly preparationMs: number;
  readonly copies: number;
  /** What it launches for each copy, and of that what all copies share: operands and results. */
  readonly launches: readonly (readonly TrialCall[])[];
  readonly activations: readonly Memory[];
  /** With `count` copies of the matrix from `first` on, launched from one list. */
  run(first: number, count: number): void;
  /** `count` times, as many as there are copies at most, with the first copy. */
  again(count: number): void;
  /** Its last result; that of a weight gradient in the order of the matrix's nonzeros, dense for "dense". */
  result(): Float32Array;
}

/** Columns up to which our dense product is faster by rows, 2 to 5 times for 8. */
const FEW = 16;

/** A kernel and what it works on. */
type Call = readonly [Kernel, readonly Memory[]];

/** Contestants over one matrix and one pair of operands; `close` frees all but the matrix. */
export class Ring {
  private readonly memories: Memory[] = [];
  private readonly lists: LaunchList[] = [];
  private readonly device: CpuDevice;

  constructor(
    private readonly weights: Weights,
    private readonly operands: Operands,
  ) {
    this.device = weights.device;
  }

  async contestants(product: Product): Promise<Contestant[]> {
    const csr = product === "weightGradient" ? [] : [await this.rows(product)];
    const learned = product === "forward" && this.operands.n === 1 ? [await this.vector("learned", this.weights.vectorLearned())] : [];
    const packing = this.operands.n > FEW || product === "weightGradient" ? [await this.packing(product)] : [];
    const byRows = product === "forward" && this.operands.n > 1 ? [await this.byRows(), await this.tiled()] : [];
    const isShared = this.device.threads > 1 && product === "forward" && this.operands.n === 1;
    const alone = isShared ? [await this.vector("alone", this.weights.vector(1))] : [];
    return [await this.dense(product), await this.sparse(product), ...csr, ...learned, ...alone, ...packing, ...byRows];
  }

  /** W·X by any algorithm, over a matrix of the same sizes. */
  algorithm({ name, steps }: Algorithm, w: Coo): Promise<Contestant> {
    const output = this.empty(4 * this.weights.matrix.rows * this.operands.n);
    const x = this.put(this.operands.x);
    let bytes = 0;
    const start = performance.now();
    const made = Array.from({ length: this.weights.count }, () => {
      const shared = new Map<Operand, Memory>([
        ["x", x],
        ["y", output],
      ]);
      const memoryOf = (operand: Operand): Memory => {
        const memory =
          shared.get(operand) ?? (ArrayBuffer.isView(operand) ? this.put(operand) : this.empty((operand as { bytes: number }).bytes)); // "x" and "y" are known
        shared.set(operand, memory);
        return memory;
      };
      const calls = steps(w, this.operands.n, this.device).map(({ kernel, operands }): Call => [kernel, operands.map(memoryOf)]);
      bytes = [...shared].reduce((sum, [operand, memory]) => sum + (ArrayBuffer.isView(operand) ? memory.bytes : 0), 0);
      return calls;
    });
    const ms = (performance.now() - start) / this.weights.count;
    return this.contestant(name, { bytes, ms }, (copy) => made[copy], output);
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
  /** For each copy kernels one after another, the last of which writes `output`, or its part of it. */
  private async contestant(
    name: string,
    { bytes, ms }: { readonly bytes: number; readonly ms: number },
    callsOf: (copy: number) => readonly Call[],
    output: Memory | readonly Memory[],
  ): Promise<Contestant> {
    const copies = this.weights.count;
    const calls = Array.from({ length: 2 * copies }, (_, i) => callsOf(i < copies ? i : 0)); // each copy, then the first as many times
    const kernels = [...new Set(calls.flat().map(([kernel]) => kernel))];
    const launches = calls.flat().map(([kernel, memories]) => ({ kernel: kernels.indexOf(kernel), args: memories.map((m) => m.address) }));
    const list = await this.device.load(kernels, launches);
    this.lists.push(list);
    const steps = calls[0].length;
    let last = 0;
    const [one, two] = calls;
    const others = new Set(two.flatMap(([, memories]) => memories));
    return {
      name,
      bytes,
      preparationMs: ms,
      copies,
      launches: calls.slice(0, copies).map((copy) => copy.map(([kernel, args]) => ({ kernel, args }))),
      activations: [...new Set(one.flatMap(([, memories]) => memories))].filter((m) => others.has(m)),
      run(first, count) {
        last = first + count - 1;
        list.run(first * steps, (first + count) * steps);
      },
      again(count) {
        last = 0;
        list.run(copies * steps, (copies + count) * steps);
      },
      result() {
        const view = ("view" in output ? output : output[last]).view();
        return new Float32Array(view.buffer, view.byteOffset, view.byteLength / 4).slice();
      },
    };
  }

  /** Our own product of dense matrices as a network runs it: the right operand is packed first. Of few columns that is the weights, packed beforehand, with columns as rows of a batch. */
  dense(product: Product): Promise<Contestant> {
    const { weights, operands } = this;
    const { m, n, k, side } = this.rightOf(product);
    if (product === "weightGradient") {
      const outputs = weights.gradient();
      const [kernel, left, { call, packed }] = [this.gemm(m, n, k, false), this.put(operands.g), this.packed(product)];
      return this.contestant("dense", { bytes: 0, ms: 0 }, (copy) => [call, [kernel, [left, packed, outputs[copy]]]], outputs);
    }
    const isForward = product === "forward";
    const output = this.empty(4 * m * n);
    if (n <= FEW) {
      const kept = isForward ? weights.packed(n) : weights.packedTurned(n);
      const [kernel, left] = [this.gemm(n, m, k, null), this.put(turned(side, k, n))];
      return this.contestant("dense", kept, (copy) => [[kernel, [left, ...kept.copies[copy], output]]], output);
    }
    const kept = isForward ? weights.dense() : weights.turned();
    const [kernel, { call, packed }] = [this.gemm(m, n, k, true), this.packed(product)];
    return this.contestant("dense", kept, (copy) => [call, [kernel, [...kept.copies[copy], packed, output]]], output);
  }
  /** What packing takes of it: another kernel might have written the operand like that. */
  private packing(product: Product): Promise<Contestant> {
    const { call, packed } = this.packed(product);
    return this.contestant("pack", { bytes: 0, ms: 0 }, () => [call], packed);
  }
  /** Sizes of the dense product, its right operand, and elements from one of its rows and columns to the next. */
  private rightOf(product: Product) {
    const { rows, columns } = this.weights.matrix;
    const { n, x, g } = this.operands;
    if (product === "weightGradient") return { m: rows, n: columns, k: n, side: x, strides: { k: 1, n } };
    const strides = { k: n, n: 1 };
    return product === "forward" ? { m: rows, n, k: columns, side: x, strides } : { m: columns, n, k: rows, side: g, strides };
  }
  /** `isLeftConstant`: by weights, where the right operand is packed each time; null: it was packed beforehand. */
  private shapeOf(m: number, n: number, k: number, isLeftConstant: boolean | null): GemmShape {
    const { target, threads } = this.device;
    const shape = gemmShape(m, n, k);
    return isLeftConstant === null ? shape : { ...shape, columnSharers: columnSharers(shape, isLeftConstant, target, threads) };
  }
  private gemm(m: number, n: number, k: number, isLeftConstant: boolean | null): Kernel {
    const { target, threads } = this.device;
    const shape = this.shapeOf(m, n, k, isLeftConstant);
    return gemmKernel("dense", shape, scheduleGemm(shape, target), noEpilogue({ dtype: "f32", shape: [m, n] }), target, threads);
  }
  private packed(product: Product): { readonly call: Call; readonly packed: Memory } {
    const { target, threads } = this.device;
    const { m, n, k, side, strides } = this.rightOf(product);
    const shape = this.shapeOf(m, n, k, product !== "weightGradient");
    const schedule = scheduleGemm(shape, target);
    const packed = this.empty(4 * packedElements(shape, schedule, target));
    const kernel = packKernel("pack", { batch: 0, ...strides }, shape, schedule, target, threads);
    return { call: [kernel, [this.put(side), packed]], packed };
  }

  private sparse(product: Product): Promise<Contestant> {
    if (product === "weightGradient") return this.sampled();
    if (product === "dataGradient") return this.operands.n === 1 ? this.vectorTurned() : this.backward();
    return this.operands.n === 1 ? this.vector("csb", this.weights.vector(this.device.threads)) : this.forward();
  }
  private forward(): Promise<Contestant> {
    const kept = this.weights.forward(this.operands.n);
    const output = this.empty(4 * kept.form.rows * this.operands.n);
    const [kernel, x] = [this.product(sparseProductShape(kept.form, this.operands.n)), this.put(this.operands.x)];
    return this.contestant("csb", kept, (copy) => [[kernel, [...kept.copies[copy], x, output]]], output);
  }
  /** The sparse kernel where activations lie by rows, which it turns around on both sides. */
  private async byRows(): Promise<Contestant> {
    const { n, x } = this.operands;
    const { rows, depth } = this.weights.forwardByRows().form;
    const contestant = await this.turning("byRows", {}, this.put(turned(x, depth, n)), this.empty(4 * rows * n));
    return { ...contestant, result: () => turned(contestant.result(), n, rows) };
  }
  /** The same between two others: operand and result as it hands them on. */
  private async tiled(): Promise<Contestant> {
    const { n, x } = this.operands;
    const { rows, depth } = this.weights.forwardByRows().form;
    const [taken, given] = [depth, rows].map((side) => tilesOf(n, side, this.device.target));
    const [operand, output] = [this.put(intoTiles(x, n, depth, taken)), this.empty(bytesOfTiles(given))];
    const contestant = await this.turning("tiled", { takesTiles: true, givesTiles: true }, operand, output);
    return { ...contestant, result: () => outOfTiles(contestant.result(), n, rows, given) };
  }
  private turning(name: string, inTiles: InTiles, operand: Memory, output: Memory): Promise<Contestant> {
    const { target, threads } = this.device;
    const { n } = this.operands;
    const kept = this.weights.forwardByRows();
    const epilogue = noEpilogue({ dtype: "f32", shape: [n, kept.form.rows] });
    const side = channelsLast(false, undefined, inTiles);
    const kernel = sparseProductKernel("sparse", sparseProductShape(kept.form, n), epilogue, target, threads, side);
    return this.contestant(name, kept, (copy) => [[kernel, [...kept.copies[copy], operand, output]]], output);
  }
  /** The values, of which there is one copy for both directions, are brought into this one's order each time. */
  private backward(): Promise<Contestant> {
    const { n, g } = this.operands;
    const kept = this.weights.backward(this.operands.n);
    const output = this.empty(4 * kept.form.groups.rows * n);
    const [kernel, side] = [this.product(spreadProductShape(kept.form, n)), this.put(g)];
    return this.contestant("csb", kept, (copy) => [[kernel, [...kept.copies[copy], side, output]]], output);
  }
  private product(shape: SparseProductShape): Kernel {
    const { target, threads } = this.device;
    const type = { dtype: "f32" as const, shape: [shape.rows, shape.n] };
    return sparseProductKernel("sparse", shape, noEpilogue(type), target, threads);
  }
  private vector(name: string, kept: ReturnType<Weights["vectorLearned"]>): Promise<Contestant> {
    const { rows } = this.weights.matrix;
    const { shape, threads } = kept.form;
    const kernel = sparseVectorKernel("sparse", shape, noEpilogue({ dtype: "f32", shape: [1, rows] }), this.device.target, threads);
    const [x, output] = [this.put(this.operands.x), this.empty(4 * rows)];
    return this.contestant(name, kept, (copy) => [[kernel, [...kept.copies[copy], x, output]]], output);
  }
  /** From the values in the order of the product itself. */
  private vectorTurned(): Promise<Contestant> {
    const { target, threads } = this.device;
    const { columns } = this.weights.matrix;
    const kept = this.weights.vectorTurned();
    const { shape } = kept.form;
    const [first, second] = turnedKernels("sparse", shape, noEpilogue({ dtype: "f32", shape: [1, columns] }), target, threads);
    const [g, output] = [this.put(this.operands.g), this.empty(4 * columns)];
    if (!second) return this.contestant("csb", kept, (copy) => [[first, [...kept.copies[copy], g, output]]], output);
    const sums = this.empty(turnedSumBytes(shape, target, threads));
    const calls = (copy: number): Call[] => [
      [first, [...kept.copies[copy], g, sums]],
      [second, [sums, output]],
    ];
    return this.contestant("csb", kept, calls, output);
  }
  private sampled(): Promise<Contestant> {
    const { target, threads } = this.device;
    const kept = this.weights.pattern(this.operands.n);
    const outputs = this.weights.sampledGradient();
    const kernel = sparseSampledKernel("sparse", kept.form, target, threads);
    const [g, x] = [this.put(this.operands.g), this.put(this.operands.x)];
    return this.contestant("csb", kept, (copy) => [[kernel, [...kept.copies[copy], g, x, outputs[copy]]]], outputs);
  }

  /** Plain CSR, of a transposed copy for the data gradient. */
  private rows(product: Product): Promise<Contestant> {
    const { target, threads } = this.device;
    const { n, x, g } = this.operands;
    const kept = product === "forward" ? this.weights.rows() : this.weights.rowsTurned();
    const { rows, columns, values } = kept.form;
    const kernel = sparseRowsKernel("csr", { rows, depth: columns, n, nonzeros: values.length }, target, threads);
    const [side, output] = [this.put(product === "forward" ? x : g), this.empty(4 * rows * n)];
    return this.contestant("csr", kept, (copy) => [[kernel, [...kept.copies[copy], side, output]]], output);
  }
}

/** (rows, n) → tiles. */
function intoTiles(x: Float32Array, n: number, rows: number, tiles: Tiles): Float32Array {
  const out = new Float32Array(bytesOfTiles(tiles) / 4);
  eachInTiles(n, rows, tiles, (at, inTiles) => (out[inTiles] = x[at]));
  return out;
}
function outOfTiles(y: Float32Array, n: number, rows: number, tiles: Tiles): Float32Array {
  const out = new Float32Array(rows * n);
  eachInTiles(n, rows, tiles, (at, inTiles) => (out[at] = y[inTiles]));
  return out;
}
/** Each element of (rows, n), and where it is in tiles. */
function eachInTiles(n: number, rows: number, tiles: Tiles, element: (at: number, inTiles: number) => void): void {
  for (let r = 0; r < rows; r++)
    for (let j = 0; j < n; j++)
      element(r * n + j, (Math.floor(j / tiles.width) * tileBytes(tiles) + r * tiles.rowBytes) / 4 + (j % tiles.width));
}
