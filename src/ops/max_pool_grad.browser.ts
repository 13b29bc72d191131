// The gradient of MaxPool: none, nothing in browsers makes it.
export const maxPoolGradOps: typeof import("./max_pool_grad.ts").maxPoolGradOps = [];
