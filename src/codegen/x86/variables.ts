// What wants a register for longer than one step — vectors, integers, pointers — as rows of one table, kept in columns: thousands of them cost no object.
import type { PointerAddress, Stmt, Vec } from "../../ir/kernel.ts";

/** Row number of a variable. A vector's is its id, unless it is a constant that another vector holds, too; integers and pointers follow. */
export type Variable = number;

/** Kinds of registers, as indices. */
export const INTEGER = 0;
export const VECTOR = 1;

/** Start of a variable that nothing touches. */
const NEVER = 0x7fffffff;

export class Variables {
  count: number;
  /** First and last moment of life: 2·step when read, 2·step+1 when written; end -1: never touched. */
  readonly start: Int32Array;
  readonly end: Int32Array;
  /** Cost of keeping it in memory: accesses, each loop around one counting tenfold. */
  readonly weight: Float64Array;
  /** -1: none, it lives in memory. */
  readonly register: Int8Array;
  readonly isSpilled: Uint8Array;
  /** Byte offset in the frame, of those that live in memory. */
  readonly slot: Int32Array;
  /** The step that is its first write, where that reads vectors whose register it would like to take over; -1: none. */
  readonly birth: Int32Array;
  /** Set when the only write is this constant: then it can be had from the constant pool at any time. */
  readonly constants: (Extract<Stmt<PointerAddress>, { k: "const" }> | undefined)[] = [];
  /** The variable that holds the same constant as a vector, -1: none. */
  private readonly same: Int32Array;

  constructor(
    /** Variables below are vectors, the others integers. */
    readonly vectors: number,
    integers: number,
  ) {
    this.count = vectors;
    const capacity = vectors + integers;
    this.start = new Int32Array(capacity).fill(NEVER);
    this.end = new Int32Array(capacity).fill(-1);
    this.weight = new Float64Array(capacity);
    this.register = new Int8Array(capacity).fill(-1);
    this.isSpilled = new Uint8Array(capacity);
    this.slot = new Int32Array(capacity);
    this.birth = new Int32Array(capacity).fill(-1);
    this.same = new Int32Array(vectors).fill(-1);
  }

  /** A new integer or pointer. */
  add(): Variable {
    return this.count++;
  }
  kind(v: Variable): number {
    return v < this.vectors ? VECTOR : INTEGER;
  }
  ofVector({ id }: Vec): Variable {
    const same = this.same[id];
    return same < 0 ? id : same;
  }
  /** Lets `v` hold the constant of `vector`, too. */
  share(vector: Vec, v: Variable): void {
    this.same[vector.id] = v;
  }
}
