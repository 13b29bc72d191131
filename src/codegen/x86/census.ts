// Counts over a kernel that the emitter decides by: how often each vector is read and written, which integers are read, which lane masks are needed.
import type { Affine, IntVar, Kernel, PointerAddress, Stmt, Vec } from "../../ir/kernel.ts";

export interface VecCount {
  reads: number;
  writes: number;
}

export type ConstStmt = Extract<Stmt<PointerAddress>, { k: "const" }>;

export interface Census {
  vec(v: Vec): VecCount;
  isIntUsed(v: IntVar): boolean;
  /** Constants that are their vector's only write, and are read: they can be set once, anywhere. */
  readonly constants: readonly ConstStmt[];
  /** Mask register that holds the first `lanes` lanes throughout the kernel (2–7), or 0: none. */
  maskRegister(lanes: number): number;
  readonly maskRegisters: ReadonlyMap<number, number>;
}

/** Lane counts for which a statement needs a mask register on AVX-512; 4, 8 and 16 lanes are whole registers, 1 and 2 of 32 bits scalar moves. */
export function maskLanes(stmt: Stmt<PointerAddress>): number {
  if (stmt.k === "gather") return stmt.lanes;
  if (stmt.k !== "store" && !(stmt.k === "load" && stmt.mode === "vec")) return 0;
  const { lanes, type } = stmt;
  if (type === "i64") return lanes % 8;
  const isWhole = lanes === 4 || lanes === 8 || lanes === 16;
  return isWhole || (lanes <= 2 && (type === "f32" || type === "i32")) ? 0 : lanes;
}

const NO_COUNT: VecCount = { reads: 0, writes: 0 };

export function takeCensus(kernel: Kernel<PointerAddress>, isAvx512: boolean): Census {
  const vecs = new Map<number, VecCount>();
  const used = new Set<number>();
  const masks = new Map<number, number>();
  const constants: ConstStmt[] = [];
  const count = (v: Vec | undefined, what: "reads" | "writes"): void => {
    if (!v) return;
    const entry = vecs.get(v.id);
    if (entry) entry[what]++;
    else vecs.set(v.id, { reads: 0, writes: 0, [what]: 1 });
  };
  const use = (a: Affine): void => {
    for (const { v } of a.terms) used.add(v.id);
  };
  const walk = (stmts: readonly Stmt<PointerAddress>[], weight: number): void => {
    for (const stmt of stmts) {
      const lanes = isAvx512 ? maskLanes(stmt) : 0;
      if (lanes > 0 && lanes < kernel.lanes) masks.set(lanes, (masks.get(lanes) ?? 0) + weight);
      switch (stmt.k) {
        case "for":
          use(stmt.from);
          use(stmt.to);
          walk(stmt.body, weight * 10);
          break;
        case "parallel":
          walk(stmt.body, weight * 10);
          break;
        case "if":
          use(stmt.a);
          use(stmt.b);
          walk(stmt.body, weight);
          walk(stmt.otherwise, weight);
          break;
        case "int":
          use(stmt.a);
          use(stmt.b);
          break;
        case "iota":
          use(stmt.a);
          count(stmt.dst, "writes");
          break;
        case "pointer":
          use(stmt.add);
          break;
        case "const":
          constants.push(stmt);
          count(stmt.dst, "writes");
          break;
        case "load":
          count(stmt.dst, "writes");
          break;
        case "gather":
          count(stmt.index, "reads");
          count(stmt.dst, "writes");
          break;
        case "store":
          count(stmt.src, "reads");
          break;
        case "vec":
          count(stmt.a, "reads");
          count(stmt.b, "reads");
          count(stmt.c, "reads");
          count(stmt.dst, "writes");
          break;
        case "loadint":
        case "prefetch":
          break;
        default:
          stmt satisfies never;
      }
    }
  };
  walk(kernel.body, 1);
  // k1 is for results of comparisons and the like; k2 to k7 hold the lane masks used most.
  const maskRegisters = new Map(
    [...masks]
      .sort((a, b) => b[1] - a[1] || a[0] - b[0])
      .slice(0, 6)
      .map(([lanes], i) => [lanes, i + 2]),
  );
  return {
    vec: (v) => vecs.get(v.id) ?? NO_COUNT,
    isIntUsed: (v) => used.has(v.id),
    constants: constants.filter(({ dst }) => {
      const { reads, writes } = vecs.get(dst.id) ?? NO_COUNT;
      return writes === 1 && reads > 0;
    }),
    maskRegister: (lanes) => maskRegisters.get(lanes) ?? 0,
    maskRegisters,
  };
}
