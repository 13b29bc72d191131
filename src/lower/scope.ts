// Where an expression stands when it becomes vector code: the loop variables, the lanes, the buffers and what is already in registers.

import type { IndexVar } from "../ir/index_expr.ts";
import type { Int, KernelBuilder, Vec } from "../ir/kernel.ts";

/** Context of emitExpr. */
export interface LaneScope {
  readonly builder: KernelBuilder;
  /** The value of each loop variable (by id); for the lane variable, its value in lane 0. */
  readonly ints: ReadonlyMap<number, Int>;
  /** The variable whose consecutive values the lanes hold; null: every lane computes the same element. */
  readonly lane: IndexVar | null;
  /** Lanes in use, 1 … builder.lanes; what the others hold is undefined, and no load touches memory for them. */
  readonly lanes: number;
  /** Kernel buffer that holds the group's input, by input number. */
  readonly buffers: readonly number[];
  /** Inputs of the group whose element at this very position is already in a register (the anchor's result), by input number. */
  readonly given: ReadonlyMap<number, Vec>;
}
