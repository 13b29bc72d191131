// In browsers small results have kernels of their own: joined ones would take 2 kB of the bundle.
type Chains = typeof import("./chains.ts");

export const joinSteps: Chains["joinSteps"] = (steps) => [...steps];
