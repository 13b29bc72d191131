// What a kernel is between planning and emission: a linear list of steps, and tables of what they use.
import type { Affine, Kernel, PointerAddress, Stmt } from "../../ir/kernel.ts";
import type { Census } from "./census.ts";
import type { Indexed } from "./indexed.ts";
import type { Variable, Variables } from "./variables.ts";

export type PointerStmt = Stmt<PointerAddress>;
export type StmtOf<K extends PointerStmt["k"]> = Extract<PointerStmt, { k: K }>;
export type Operand = "a" | "b" | "c";

/** A loop in steps. */
export interface Loop {
  readonly stmt: StmtOf<"for"> | StmtOf<"parallel">;
  /** The loop variable, or a counter that runs down to zero when nothing reads the variable. */
  readonly counter: Variable;
  readonly countsDown: boolean;
  /** -1: the bound is the constant `limit`. */
  readonly bound: Variable;
  readonly limit: number;
  /** What a counter that runs down starts from, and loses in each iteration. */
  readonly distance: Affine;
  readonly stride: number;
  readonly needsEntryTest: boolean;
  isInnermost: boolean;
  /** Labels of the emitter. */
  head: number;
  exit: number;
}

export interface Step {
  readonly k: "entry" | "stmt" | "loop" | "endloop" | "if" | "else" | "endif";
  readonly stmt: PointerStmt | undefined;
  /** Its uses in Program.uses. */
  readonly uses: number;
  readonly usesEnd: number;
  /** Its temporaries in Program.temps: vectors, then integers. */
  readonly temps: number;
  readonly vectorTemps: number;
  readonly integerTemps: number;
  loop: Loop | undefined;
  /** The comparison that makes operand c of a select (AVX-512). */
  comparison: StmtOf<"vec"> | undefined;
  /** The load that is an operand. */
  load: StmtOf<"load"> | undefined;
  /** The operand that the instruction takes from memory, and the variable that it is where `load` is not set. */
  memory: Operand | undefined;
  memoryVariable: Variable;
  /** Registers of this step for variables in memory. */
  reloads: readonly Reload[] | undefined;
}

export interface Reload {
  readonly variable: Variable;
  register: number;
  isRead: boolean;
  isWritten: boolean;
}

export interface Program {
  readonly kernel: Kernel<PointerAddress>;
  readonly isAvx512: boolean;
  readonly census: Census;
  readonly steps: readonly Step[];
  /** See lifetimes.ts. */
  readonly uses: readonly number[];
  /** Registers of temporaries, set by the allocator. */
  readonly temps: Int8Array;
  readonly variables: Variables;
  /** Variables by the ids of pointers and integers. */
  readonly pointers: readonly (Variable | undefined)[];
  /** Pointers that have no variable. */
  readonly indexed: ReadonlyMap<number, Indexed>;
  readonly ints: ReadonlyMap<number, Variable>;
  readonly args: Variable;
  readonly tid: Variable;
  readonly usesDivision: boolean;
}
