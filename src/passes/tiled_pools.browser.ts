// Pools that are learned through: none, pages run networks and do not train them.
export const tiledPools: typeof import("./tiled_pools.ts").tiledPools = () => ({ name: "tiled pools", run: (graph) => graph });
