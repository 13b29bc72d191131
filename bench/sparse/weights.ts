// One matrix in the forms that contestants keep, each made once for all numbers of columns, in copies that lie apart as the layers of a network do.
import type { CpuDevice, Memory } from "../../src/devices/cpu.ts";
import { fromNumbers } from "../../src/ir/tensor.ts";
import { type GemmShape, packedElements, packRight, scheduleGemm } from "../../src/kernels/gemm.ts";
import { sharesTiles } from "../../src/kernels/sparse_columns.ts";
import { type Direction, goesBroad, groupsOf, indexOf, shareBlockRows, sharesOf } from "../../src/kernels/sparse_groups.ts";
import { sampledIndexOf } from "../../src/kernels/sparse_sampled.ts";
import { spreadGroups, spreadIndexOf } from "../../src/kernels/sparse_spread.ts";
import { type TurnedMatrix, turnedMatrixOf } from "../../src/kernels/sparse_turned.ts";
import { type VectorMatrix, vectorIndexOf, vectorMatrixOf } from "../../src/kernels/sparse_vector.ts";
import { cutByNonzeros } from "../../src/sparse/balance.ts";
import { type Coo, cooFromDense, transposeCoo } from "../../src/sparse/coo.ts";
import type { Csb } from "../../src/sparse/csb.ts";
import { csbFromFloats } from "../../src/sparse/csb_dense.ts";
import { type Csr, csrFromCoo } from "../../src/sparse/csr.ts";
import { floats, type Numbers, ordered } from "./algorithm.ts";

/** What arrays are aligned to. */
const LINE = 64;

/** Made when it is first asked for: large matrices take seconds. */
function once<Value>(make: () => Value): () => Value {
  let made: { readonly value: Value } | undefined;
  return () => {
    made ??= { value: make() };
    return made.value;
  };
}

/** The same for each number. */
function each<Value>(make: (n: number) => Value): (n: number) => Value {
  const made = new Map<number, Value>();
  return (n) => {
    const value = made.get(n) ?? make(n);
    made.set(n, value);
    return value;
  };
}

/** (rows, columns) → (columns, rows). */
export function turned(data: Float32Array, rows: number, columns: number): Float32Array {
  const out = new Float32Array(data.length);
  for (let r = 0; r < rows; r++) for (let c = 0; c < columns; c++) out[c * rows + r] = data[r * columns + c];
  return out;
}

/** A matrix, dense and in blocks. */
export class Matrix {
  /** Milliseconds from the dense matrix to blocks, where these were the first that was made of it. */
  blocksMs = 0;

  constructor(
    readonly rows: number,
    readonly columns: number,
    readonly w: Float32Array,
    private readonly block: number,
  ) {}

  readonly coo: () => Coo = once(() => cooFromDense(fromNumbers("f32", [this.rows, this.columns], this.w)));
  readonly csb: () => Csb = once(() => {
    const start = performance.now();
    const csb = csbFromFloats(this.w, { rows: this.rows, columns: this.columns, block: this.block });
    this.blocksMs = performance.now() - start;
    return csb;
  });
}

/** What a contestant keeps of a matrix. */
export interface Kept<Form> {
  readonly form: Form;
  /** The arrays of each copy. */
  readonly copies: readonly (readonly Memory[])[];
  /** Of one copy. */
  readonly bytes: number;
  /** What one copy took to make, from the matrix in blocks for those that come from there. */
  readonly ms: number;
}

export const gemmShape = (m: number, n: number, k: number): GemmShape => ({
  batch: 1,
  m,
  n,
  k,
  left: { batch: 0, row: k },
  isRightBatched: false,
  hasBias: false,
});

export class Weights {
  private readonly memories: Memory[] = [];

  constructor(
    readonly device: CpuDevice,
    readonly matrix: Matrix,
    /** Copies of each form. */
    readonly count: number,
  ) {}

  close(): void {
    for (const memory of this.memories) memory.free();
  }

  /** As a product of many columns reads them. */
  readonly dense = once(() => this.keep(() => ({ form: null, arrays: [this.matrix.w] })));
  readonly turned = once(() => this.keep(() => ({ form: null, arrays: [turned(this.matrix.w, this.matrix.rows, this.matrix.columns)] })));
  /** As a layer packs them, for a batch of n. */
  readonly packed = each((n) => this.keepPacked(n, this.matrix.rows, this.matrix.columns, { k: 1, n: this.matrix.columns }));
  readonly packedTurned = each((n) => this.keepPacked(n, this.matrix.columns, this.matrix.rows, { k: this.matrix.columns, n: 1 }));

  /** Values in the kernel's order, and its index. */
  forward(n: number) {
    return this.forwardFor(this.columnsOf("forward", n));
  }
  private readonly forwardFor = each((n) =>
    this.keep(() => {
      const { target, threads } = this.device;
      const form = groupsOf(this.matrix.csb(), "forward", target, threads, n);
      return { form, arrays: [ordered(this.values(), form.place), ...indexOf(form), ...sharesOf(form, n, target, threads)] };
    }),
  );
  /** The same for activations by rows, whose columns threads share: they are met in panels however many there are. */
  readonly forwardByRows = once(() =>
    this.keep(() => {
      const { target, threads } = this.device;
      const form = groupsOf(this.matrix.csb(), "forward", target, threads);
      return { form, arrays: [ordered(this.values(), form.place), ...indexOf(form)] };
    }),
  );
  /** Values in the order of blocks, and where the kernel's order has each of them. */
  backward(n: number) {
    return this.backwardFor(this.columnsOf("transposed", n));
  }
  private readonly backwardFor = each((n) =>
    this.keep(() => {
      const { target, threads } = this.device;
      const form = spreadGroups(groupsOf(this.matrix.csb(), "transposed", target, threads, n));
      if (!form) throw new Error(`${this.matrix.rows}x${this.matrix.columns}: a strip has too many nonzeros in a panel`);
      return { form, arrays: [this.values(), ...spreadIndexOf(form), shareBlockRows(form.groups, threads)] };
    }),
  );
  /** Walks are the same for all numbers of columns, but for broad ones, and where threads share the columns. */
  private columnsOf(direction: Direction, n: number): number {
    const { rows, columns: depth } = this.matrix;
    const { target, threads } = this.device;
    const isShared = direction === "forward" && sharesTiles({ rows, depth, n }, target, threads);
    return isShared || goesBroad(this.matrix.csb(), direction, target, n) ? n : 0;
  }
  /** For one column, as a network that does not learn has it, shared out to so many threads. */
  readonly vector = each((threads) => this.keep(() => this.vectorForm(false, threads)));
  /** As a layer that learns has it: the other direction reads the same values. */
  readonly vectorLearned = once(() => this.keep(() => this.vectorForm(true, this.device.threads)));
  private vectorForm(withTurned: boolean, threads: number) {
    const matrix: VectorMatrix = vectorMatrixOf(this.matrix.csb(), this.device.target, withTurned);
    return { form: { ...matrix, threads }, arrays: [ordered(this.values(), matrix.place), ...vectorIndexOf(matrix, threads)] };
  }
  /** The same values, and the index of the other direction. */
  readonly vectorTurned = once(() =>
    this.keep(() => {
      const matrix: VectorMatrix = vectorMatrixOf(this.matrix.csb(), this.device.target, true);
      const form: TurnedMatrix = turnedMatrixOf(matrix)!; // asked for above
      return { form, arrays: [ordered(this.values(), matrix.place), ...form.index] };
    }),
  );
  /** The pattern without values, as the gradient of n columns reads it. */
  readonly pattern = (n: number): ReturnType<typeof this.sampledBy> => {
    const known = this.patterns.get(n) ?? this.sampledBy(n);
    this.patterns.set(n, known);
    return known;
  };
  private readonly patterns = new Map<number, ReturnType<typeof this.sampledBy>>();
  private sampledBy(n: number) {
    return this.keep(() => {
      const { shape, arrays } = sampledIndexOf(this.matrix.csb(), n, this.device.target, this.device.threads);
      return { form: shape, arrays };
    });
  }
  readonly rows = once(() => this.keep(() => this.csr(this.matrix.coo())));
  readonly rowsTurned = once(() => this.keep(() => this.csr(transposeCoo(this.matrix.coo()))));
  /** Where gradients of weights go: all of them, or those of nonzeros. */
  readonly gradient = once(() => this.room(4 * this.matrix.w.length));
  readonly sampledGradient = once(() => this.room(4 * this.values().length));

  /** Memory that is filled: pages that were never written all lie on one. */
  empty(bytes: number): Memory {
    const memory = this.device.alloc(bytes);
    this.memories.push(memory);
    memory.view().fill(0);
    return memory;
  }
  /** In one memory, as a network has its constants: where these are several megabytes, they lie on huge pages. */
  private putTogether(arrays: readonly Numbers[]): Memory[] {
    const starts = [0];
    for (const { byteLength } of arrays) starts.push(starts[starts.length - 1] + Math.ceil(byteLength / LINE) * LINE);
    const all = this.empty(starts[arrays.length]);
    return arrays.map(({ buffer, byteOffset, byteLength: bytes }, i) => {
      const view = () => all.view().subarray(starts[i], starts[i] + bytes);
      view().set(new Uint8Array(buffer, byteOffset, bytes));
      return { address: all.address + starts[i], bytes, view, free: () => {} };
    });
  }
  keep<Form>(make: () => { readonly form: Form; readonly arrays: readonly Numbers[] }): Kept<Form> {
    const start = performance.now();
    const { form, arrays } = make();
    const ms = performance.now() - start;
    const all = this.putTogether(Array.from({ length: this.count }, () => arrays).flat());
    const copies = Array.from({ length: this.count }, (_, i) => all.slice(i * arrays.length, (i + 1) * arrays.length));
    return { form, copies, bytes: arrays.reduce((sum, a) => sum + a.byteLength, 0), ms };
  }
  private room(bytes: number): readonly Memory[] {
    return Array.from({ length: this.count }, () => this.empty(bytes));
  }

  private values(): Float32Array {
    return floats(this.matrix.csb());
  }
  private keepPacked(m: number, n: number, k: number, strides: { readonly k: number; readonly n: number }): Kept<null> {
    const { target } = this.device;
    const shape = gemmShape(m, n, k);
    return this.keep(() => {
      const schedule = scheduleGemm(shape, target);
      const packed = new Float32Array(packedElements(shape, schedule, target));
      packRight(this.matrix.w, strides, shape, schedule, target, packed);
      return { form: null, arrays: [packed] };
    });
  }
  private csr(coo: Coo) {
    const csr: Csr = csrFromCoo(coo);
    return { form: csr, arrays: [csr.pointers, csr.column, floats(csr), cutByNonzeros(csr.pointers, this.device.threads)] };
  }
}
