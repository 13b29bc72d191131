// Pages have no layers that are open: all their kernels are dense.
export { implement as implementTried } from "./implement/index.ts";
