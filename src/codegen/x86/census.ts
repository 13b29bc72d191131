// Counts over a kernel that the emitter decides by: how often each vector is read and written, which integers are read, which lane masks are needed.
import type { Affine, IntVar, Kernel, PointerAddress, Stmt } from "../../ir/kernel.ts";
import { OPERATIONS } from "./operations.ts";

export type LoadStmt = Extract<Stmt<PointerAddress>, { k: "load" }>;
export type VecStmt = Extract<Stmt<PointerAddress>, { k: "vec" }>;
export type ConstStmt = Extract<Stmt<PointerAddress>, { k: "const" }>;

export interface Census {
  /** Reads and writes of each vector, by its id. */
  readonly reads: Int32Array;
  readonly writes: Int32Array;
  /** An upper bound of how many integers and pointers the kernel's code has. */
  readonly integers: number;
  isIntUsed(v: IntVar): boolean;
  /** Constants that are their vector's only write, and are read: they can be set once, anywhere. */
  readonly constants: readonly ConstStmt[];
  /** Mask register that holds these bits throughout the kernel (2–7), or 0: none. */
  maskRegister(bits: number): number;
  readonly maskRegisters: ReadonlyMap<number, number>;
}

/** The bits of the first lanes. */
export const laneBits = (lanes: number): number => (1 << lanes) - 1;

/** Lane counts for which a statement needs a mask register on AVX-512; 4, 8 and 16 lanes are whole registers, 1 and 2 of 32 bits scalar moves. */
export function maskLanes(stmt: Stmt<PointerAddress>): number {
  if (stmt.k === "gather") return stmt.lanes;
  if (stmt.k !== "store" && !(stmt.k === "load" && stmt.mode === "vec")) return 0;
  const { lanes, type } = stmt;
  if (lanes === 16) return 0;
  if (type === "i64") return lanes % 8;
  const isWhole = lanes === 4 || lanes === 8;
  return isWhole || (lanes <= 2 && (type === "f32" || type === "i32")) ? 0 : lanes;
}

export function takeCensus(kernel: Kernel<PointerAddress>, isAvx512: boolean): Census {
  return new Counter(kernel, isAvx512).census();
}

class Counter {
  private reads = new Int32Array(256);
  private writes = new Int32Array(256);
  /** Loops, integers and pointers. */
  private integers = 0;
  private readonly used = new Set<number>();
  private readonly masks = new Map<number, number>();
  private readonly constants: ConstStmt[] = [];

  constructor(
    private readonly kernel: Kernel<PointerAddress>,
    private readonly isAvx512: boolean,
  ) {}

  census(): Census {
    this.block(this.kernel.body, 1);
    const { reads, writes, used, masks } = this;
    // k1 is for results of comparisons and the like; k2 to k7 hold the lane masks used most.
    const maskRegisters = new Map(
      [...masks]
        .sort((a, b) => b[1] - a[1] || a[0] - b[0])
        .slice(0, 6)
        .map(([bits], i) => [bits, i + 2]),
    );
    return {
      reads,
      writes,
      integers: this.integers + 2, // and the arguments
      isIntUsed: (v) => used.has(v.id),
      constants: this.constants.filter(({ dst }) => writes[dst.id] === 1 && reads[dst.id] > 0),
      maskRegister: (bits) => maskRegisters.get(bits) ?? 0,
      maskRegisters,
    };
  }

  private read(id: number): void {
    if (id >= this.reads.length) this.grow(id);
    this.reads[id]++;
  }
  private write(id: number): void {
    if (id >= this.writes.length) this.grow(id);
    this.writes[id]++;
  }
  private grow(id: number): void {
    const size = Math.max(2 * this.reads.length, id + 1);
    for (const column of ["reads", "writes"] as const) {
      const larger = new Int32Array(size);
      larger.set(this[column]);
      this[column] = larger;
    }
  }
  private use(a: Affine): void {
    for (let i = 0; i < a.terms.length; i++) this.used.add(a.terms[i].v.id);
  }
  private mask(stmt: Stmt<PointerAddress>, weight: number): void {
    const lanes = this.isAvx512 ? maskLanes(stmt) : 0;
    if (lanes > 0 && lanes < this.kernel.lanes) this.maskWith(laneBits(lanes), weight);
  }

  private maskWith(bits: number, weight: number): void {
    this.masks.set(bits, (this.masks.get(bits) ?? 0) + weight);
  }

  private block(stmts: readonly Stmt<PointerAddress>[], weight: number): void {
    for (let i = 0; i < stmts.length; i++) {
      const s = stmts[i];
      if (s.k !== "vec") {
        this.statement(s, weight);
        continue;
      }
      this.read(s.a.id);
      if (s.b) this.read(s.b.id);
      // There is no other way to get this mask.
      if (OPERATIONS[s.op].form === "halves") this.maskWith(OPERATIONS[s.op].imm, Number.POSITIVE_INFINITY);
      if (s.c) this.read(s.c.id);
      this.write(s.dst.id);
    }
  }

  private statement(stmt: Exclude<Stmt<PointerAddress>, VecStmt>, weight: number): void {
    switch (stmt.k) {
      case "load":
        this.mask(stmt, weight);
        this.write(stmt.dst.id);
        break;
      case "store":
        this.mask(stmt, weight);
        this.read(stmt.src.id);
        break;
      case "const":
        this.constants.push(stmt);
        this.write(stmt.dst.id);
        break;
      case "gather":
        this.mask(stmt, weight);
        this.read(stmt.index.id);
        this.write(stmt.dst.id);
        break;
      case "expand":
        this.write(stmt.dst.id);
        break;
      case "iota":
        this.use(stmt.a);
        this.write(stmt.dst.id);
        break;
      case "pointer":
        this.integers++;
        this.use(stmt.add);
        break;
      case "int":
        this.integers++;
        this.use(stmt.a);
        this.use(stmt.b);
        break;
      case "loadint":
        this.integers++;
        break;
      case "for":
        this.integers += 2; // the counter and the bound
        this.use(stmt.from);
        this.use(stmt.to);
        this.block(stmt.body, weight * 10);
        break;
      case "parallel":
        this.integers += 2;
        this.block(stmt.body, weight * 10);
        break;
      case "if":
        this.use(stmt.a);
        this.use(stmt.b);
        this.block(stmt.body, weight);
        this.block(stmt.otherwise, weight);
        break;
      case "prefetch":
        break;
      default:
        stmt satisfies never;
    }
  }
}
