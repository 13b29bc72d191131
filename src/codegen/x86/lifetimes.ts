// Reads and writes in the order of the text to the interval in which each variable is alive, loops and conditions included.
import type { Variable, Variables } from "./variables.ts";

/** A loop that is open. Steps after `begin` are its body. */
interface OpenLoop {
  readonly begin: number;
  readonly outer: OpenLoop | undefined;
  /** Where the outermost loop around it begins. */
  readonly outermost: number;
  /** Variables that its body may read before writing them, so that the previous round's value counts; not those that an outer loop has. */
  readonly exposed: Variable[];
  /** Variables that its body writes, but maybe not in every round. */
  readonly unsure: Variable[];
}

/** Steps that may be left out: one branch of a condition, or a loop that may have no round. */
interface OpenCondition {
  readonly begin: number;
  readonly outer: OpenCondition | undefined;
  /** Variables that it writes, each followed by its last sure write before. */
  changes: number[];
  /** What the first of two branches writes. */
  first: readonly number[];
}

/** A use is a variable and its role in a step: variable << ROLE_BITS | role. */
export const ROLE_BITS = 3;
export const ROLE_MASK = 7;
/** An operand of a vector instruction, in the order c, a, b. */
export const READS_OPERAND = 0;
/** A vector in a register. */
export const READS_VECTOR = 1;
export const WRITES_VECTOR = 2;
/** An integer in a register, as the base of an address. */
export const READS_BASE = 3;
/** An integer in a register or in memory. */
export const READS_INTEGER = 4;
export const WRITES_INTEGER = 5;
/** Changes an integer in place, in a register or in memory. */
export const UPDATES_INTEGER = 6;

export class Lifetimes {
  /** The step that reads and writes now. */
  step = 0;
  /** What is used, step by step. */
  readonly uses: number[] = [];
  /** What an access counts: ten times as much in each loop. */
  private weight = 1;
  private loop: OpenLoop | undefined;
  /** What was last written up to here is read from outside of the loop; -1 in no loop: what was never written. */
  private horizon = -1;
  private condition: OpenCondition | undefined;
  /** The last step so far that surely wrote a variable, -1: none. */
  private readonly definedAt: Int32Array;
  /** First step of the loop that a variable is exposed to, -1: none. */
  private readonly exposedTo: Int32Array;
  /** Triples: a variable, and first and last step of a loop that may leave it as it was for what follows. */
  private readonly kept: number[] = [];
  private readonly start: Int32Array;
  private readonly end: Int32Array;
  private readonly weights: Float64Array;

  constructor({ start, end, weight }: Variables) {
    this.start = start;
    this.end = end;
    this.weights = weight;
    this.definedAt = new Int32Array(start.length).fill(-1);
    this.exposedTo = new Int32Array(start.length).fill(-1);
  }

  read(v: Variable, role: number): void {
    this.uses.push((v << ROLE_BITS) | role);
    this.weights[v] += this.weight;
    this.end[v] = 2 * this.step; // time only goes on
    if (this.definedAt[v] <= this.horizon) this.expose(v);
  }

  write(v: Variable, role: number): void {
    this.uses.push((v << ROLE_BITS) | role);
    this.weights[v] += this.weight;
    const moment = 2 * this.step + 1;
    this.end[v] = moment;
    // One instruction may give its result the register of an operand; the several that compute an integer must not.
    if (this.definedAt[v] < 0) this.startAt(v, role === WRITES_VECTOR ? moment : moment - 1);
    this.define(v);
  }

  private startAt(v: Variable, moment: number): void {
    if (moment < this.start[v]) this.start[v] = moment;
  }

  private define(v: Variable): void {
    const { condition, definedAt } = this;
    if (condition && definedAt[v] <= condition.begin) condition.changes.push(v, definedAt[v]);
    definedAt[v] = this.step;
  }

  private expose(v: Variable): void {
    let { loop } = this;
    if (!loop) {
      this.startAt(v, 2 * this.step);
      return;
    }
    if (this.exposedTo[v] === loop.outermost) return;
    const since = this.definedAt[v];
    while (loop.outer && since <= loop.outer.begin) loop = loop.outer;
    if (this.exposedTo[v] === loop.begin) return;
    this.exposedTo[v] = loop.begin;
    loop.exposed.push(v);
    this.startAt(v, 2 * loop.begin + 1);
  }

  // ---- structure

  /** After the accesses of the step that begins it. */
  openLoop(mayBeEmpty: boolean): void {
    const outer = this.loop;
    this.loop = { begin: this.step, outer, outermost: outer ? outer.outermost : this.step, exposed: [], unsure: [] };
    this.horizon = this.step;
    if (mayBeEmpty) this.openCondition();
    this.weight *= 10;
  }
  /** After the accesses of the step that ends it. */
  closeLoop(mayBeEmpty: boolean): void {
    const loop = this.loop as OpenLoop; // opened before
    this.weight /= 10;
    this.loop = loop.outer;
    this.horizon = loop.outer ? loop.outer.begin : -1;
    for (const v of loop.exposed) this.end[v] = 2 * this.step + 1;
    for (const v of loop.unsure) {
      if (this.definedAt[v] > loop.begin) continue;
      this.kept.push(v, loop.begin, this.step);
      loop.outer?.unsure.push(v);
    }
    if (mayBeEmpty) this.closeCondition();
  }
  openCondition(): void {
    this.condition = { begin: this.step, outer: this.condition, changes: [], first: [] };
  }
  /** Between two branches. */
  otherwise(): void {
    const condition = this.condition as OpenCondition;
    this.undo(condition.changes);
    condition.first = condition.changes;
    condition.changes = [];
  }
  closeCondition(): void {
    const { changes, first, outer } = this.condition as OpenCondition;
    this.undo(changes);
    this.condition = outer;
    const inFirst = new Set<Variable>();
    for (let i = 0; i < first.length; i += 2) inFirst.add(first[i]);
    for (let i = 0; i < changes.length; i += 2) {
      if (inFirst.delete(changes[i])) this.define(changes[i]);
      else this.loop?.unsure.push(changes[i]);
    }
    this.loop?.unsure.push(...inFirst);
  }
  private undo(changes: readonly number[]): void {
    for (let i = 0; i < changes.length; i += 2) this.definedAt[changes[i]] = changes[i + 1];
  }

  /** Once all loops are closed. */
  finish(): void {
    const { kept } = this;
    for (let i = 0; i < kept.length; i += 3) {
      const v = kept[i];
      const isReadLater = this.end[v] > 2 * kept[i + 2] + 1;
      if (isReadLater) this.startAt(v, 2 * kept[i + 1] + 1);
    }
  }
}
