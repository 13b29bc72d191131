// Sparse layers learn in Node only: browsers load networks whose weights are dense constants.
export const sparseOps: typeof import("./sparse_matmul.ts").sparseOps = [];
