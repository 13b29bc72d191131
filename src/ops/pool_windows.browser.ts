// What the gradients of pools are made of: none, nothing in browsers makes it.
export const poolWindowOps: typeof import("./pool_windows.ts").poolWindowOps = [];
