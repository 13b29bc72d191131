// Pages sum in JavaScript, between two stretches of kernels.
import type { DirectImplementation } from "./direct.ts";

export const cumSum: DirectImplementation = () => null;
