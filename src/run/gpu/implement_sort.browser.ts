// Pages sort in JavaScript, between two stretches of kernels.
import type { DirectImplementation } from "./direct.ts";

export const topK: DirectImplementation = () => null;
