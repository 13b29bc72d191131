// Operators that exist for a device's library: browsers have none.

export const LIBRARY_CALLS: typeof import("./library_operators.ts").LIBRARY_CALLS = {};
export const LIBRARY_FITS: typeof import("./library_operators.ts").LIBRARY_FITS = {};
