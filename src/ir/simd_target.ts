// The vector units that kernels are written for, as their authors see them: sizes, and what some processors have or do otherwise.

/** What a kernel's author must know of a SIMD target. */
export interface SimdTarget {
  readonly name: "avx512" | "avx2" | "wasm";
  readonly lanes: number;
  /** Vector registers that a kernel may keep alive without spilling. */
  readonly registers: number;
  /** The compiler behind it issues all loads of a loop body before the arithmetic, so that each takes a register: no memory operands, no unrolling. */
  readonly loadsFirst?: boolean;
  /** It has the operation dotbf16. */
  readonly dotsBf16?: boolean;
  /** Operands in memory whose address has an index cost an operation of their own. */
  readonly splitsIndexed?: boolean;
  /** It has the statement expand. */
  readonly expandsLoads?: boolean;
  /** lookuplow and lookuphigh take it two or three times as long as lookup: Intel's processors, all of whose look-ups go one way. */
  readonly slowWordLookups?: boolean;
  /** First and second level data cache of one core, bytes. */
  readonly l1: number;
  readonly l2: number;
}
