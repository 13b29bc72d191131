// Operators of pools that are learned through: none, nothing in browsers makes them.
export const tiledMaxPoolOps: typeof import("./tiled_max_pool.ts").tiledMaxPoolOps = [];
