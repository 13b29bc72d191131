// What wants a register for longer than one step — vectors, integers, pointers — as rows of one table, kept in columns: thousands of them cost no object.
import type { PointerAddress, Stmt } from "../../ir/kernel.ts";

/** Row number of a variable. */
export type Variable = number;

/** Kinds of registers, as indices. */
export const INTEGER = 0;
export const VECTOR = 1;

/** Start of a variable that nothing touches. */
const NEVER = 0x7fffffff;

export class Variables {
  count = 0;
  /** INTEGER (pointers, too) or VECTOR. */
  readonly kind: Uint8Array;
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

  constructor(capacity: number) {
    this.kind = new Uint8Array(capacity);
    this.start = new Int32Array(capacity);
    this.end = new Int32Array(capacity);
    this.weight = new Float64Array(capacity);
    this.register = new Int8Array(capacity);
    this.isSpilled = new Uint8Array(capacity);
    this.slot = new Int32Array(capacity);
    this.birth = new Int32Array(capacity);
  }

  add(kind: number): Variable {
    const v = this.count++;
    this.kind[v] = kind;
    this.start[v] = NEVER;
    this.end[v] = -1;
    this.register[v] = -1;
    this.birth[v] = -1;
    return v;
  }
}
