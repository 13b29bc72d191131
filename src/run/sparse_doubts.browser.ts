// Pages have no layers that are open: all their kernels are dense.
import { implement } from "./implement/index.ts";

export const implementTried: typeof import("./sparse_doubts.ts").implementTried = implement;
