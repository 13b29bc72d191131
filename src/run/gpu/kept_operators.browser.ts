// Operators that are kept whole: browsers have none of them.

export const KEPT_CALLS: typeof import("./kept_operators.ts").KEPT_CALLS = {};
export const KEPT_FITS: typeof import("./kept_operators.ts").KEPT_FITS = {};
