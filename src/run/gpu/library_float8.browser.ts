// Products of float8 numbers by a library: browsers have none.

export const fitsFloat8Product: typeof import("./library_float8.ts").fitsFloat8Product = () => false;
export const float8ProductCalls: typeof import("./library_float8.ts").float8ProductCalls = () => null;
