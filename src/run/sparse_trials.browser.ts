// Pages try no layers: none has sparse kernels there.
export const settleDoubts: typeof import("./sparse_trials.ts").settleDoubts = async () => false;
