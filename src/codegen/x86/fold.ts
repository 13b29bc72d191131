// Finds statements that need no instruction of their own: a load used once becomes a memory operand, a comparison used once by a select a mask register.
import type { Kernel, PointerAddress, Stmt, Vec } from "../../ir/kernel.ts";
import type { Census, ConstStmt, LoadStmt, VecStmt } from "./census.ts";
import { OPERATIONS } from "./operations.ts";

/**
 * The statement that became part of its vector's only reader, by the vector's id:
 * a load, or (AVX-512) the comparison that makes operand c of a select.
 */
export type Folds = readonly (LoadStmt | VecStmt | undefined)[];

/** How many statements further a load or comparison may move. */
const REACH = 48;

export function planFolds(kernel: Kernel<PointerAddress>, census: Census, isAvx512: boolean): Folds {
  const planner = new FoldPlanner(census, isAvx512);
  planner.block(kernel.body);
  return planner.folds;
}

/** Statements are numbered from 1 in the order of the text; what is asked is always whether something happened since a statement. */
class FoldPlanner {
  readonly folds: (LoadStmt | VecStmt | undefined)[];
  private now = 0;
  /** The last store or structured statement, and the last structured one. */
  private barrier = 0;
  private structure = 0;
  /** Loads and comparisons that wait for their reader, and their number, by the id of their vector. */
  private readonly waiting: (LoadStmt | VecStmt | undefined)[];
  private readonly waitsSince: Int32Array;
  /** Last write of each vector and each pointer. */
  private readonly written: Int32Array;
  private readonly moved: number[] = [];

  constructor(
    private readonly census: Census,
    private readonly isAvx512: boolean,
  ) {
    const vectors = census.reads.length;
    this.folds = new Array(vectors);
    this.waiting = new Array(vectors);
    this.waitsSince = new Int32Array(vectors);
    this.written = new Int32Array(vectors);
  }

  block(stmts: readonly Stmt<PointerAddress>[]): void {
    this.enterOrLeave();
    for (let i = 0; i < stmts.length; i++) {
      const s = stmts[i];
      this.now++;
      if (s.k === "vec") this.operation(s);
      else if (s.k === "const") this.written[s.dst.id] = this.now;
      else this.statement(s);
    }
    this.enterOrLeave();
  }
  private enterOrLeave(): void {
    this.barrier = this.structure = ++this.now;
  }

  private statement(s: Exclude<Stmt<PointerAddress>, VecStmt | ConstStmt>): void {
    switch (s.k) {
      case "load":
        if (this.isFoldable(s)) this.wait(s);
        this.written[s.dst.id] = this.now;
        break;
      case "store":
        this.barrier = this.now;
        break;
      case "iota":
      case "gather":
      case "expand":
        this.written[s.dst.id] = this.now;
        break;
      case "pointer":
        this.moved[s.pointer.id] = this.now;
        break;
      case "for":
      case "parallel":
        this.block(s.body);
        break;
      case "if":
        this.block(s.body);
        this.block(s.otherwise);
        break;
      case "int":
      case "loadint":
      case "prefetch":
        break;
      default:
        s satisfies never;
    }
  }

  private isPrivate(v: Vec): boolean {
    return this.census.writes[v.id] === 1 && this.census.reads[v.id] === 1;
  }
  private isFoldable({ type, mode, lanes, dst }: LoadStmt): boolean {
    if (type !== "f32" && type !== "i32") return false;
    const isWhole = this.isAvx512 ? mode === "splat" || (mode === "vec" && lanes === 16) : mode === "vec" && lanes === 8;
    return isWhole && this.isPrivate(dst);
  }
  private wait(s: LoadStmt | VecStmt): void {
    this.waiting[s.dst.id] = s;
    this.waitsSince[s.dst.id] = this.now;
  }
  /** The statement that waits for the reader of `v`, as long as it is near. */
  private near(v: Vec): LoadStmt | VecStmt | undefined {
    const since = this.waitsSince[v.id];
    return since > 0 && this.now - since < REACH ? this.waiting[v.id] : undefined;
  }

  private operation(s: VecStmt): void {
    const { a, b, c } = s;
    const { waitsSince } = this;
    if (waitsSince[a.id] > 0 || (b && waitsSince[b.id] > 0) || (c && waitsSince[c.id] > 0)) {
      if (s.op === "select" && this.isAvx512) this.takeComparison(c as Vec); // a select has a mask
      this.takeLoad(s);
    }
    if (this.isAvx512 && OPERATIONS[s.op].form === "compare" && this.isPrivate(s.dst)) this.wait(s);
    this.written[s.dst.id] = this.now;
  }

  private takeComparison(mask: Vec): void {
    const s = this.near(mask);
    if (s?.k !== "vec") return;
    const since = this.waitsSince[mask.id];
    const isChanged = this.written[s.a.id] > since || (s.b !== undefined && this.written[s.b.id] > since);
    if (this.structure > since || isChanged) return;
    this.folds[mask.id] = s;
    // It has no memory operand any more.
    this.folds[s.a.id] = undefined;
    if (s.b) this.folds[s.b.id] = undefined;
  }

  /** Of several loads the first in the text is taken. */
  private takeLoad(s: VecStmt): void {
    const row = OPERATIONS[s.op];
    const canRepeat = row.avx512.broadcast === 4;
    let first: LoadStmt | undefined;
    for (const operand of row.memory) {
      const v = s[operand];
      const load = v && this.near(v);
      if (load?.k !== "load" || (load.mode === "splat" && !canRepeat) || !this.canMove(load)) continue;
      if (!first || this.waitsSince[load.dst.id] < this.waitsSince[first.dst.id]) first = load;
    }
    if (first) this.folds[first.dst.id] = first;
  }
  /** A load moves past neither a store, which might write what it reads, nor a change of its pointer. */
  private canMove(load: LoadStmt): boolean {
    const since = this.waitsSince[load.dst.id];
    return this.barrier < since && !(this.moved[load.from.pointer.id] > since);
  }
}
