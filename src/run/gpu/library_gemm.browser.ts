// Products by a vendor's library: none, browsers have no such thing.

export const libraryCalls: typeof import("./library_gemm.ts").libraryCalls = () => null;
