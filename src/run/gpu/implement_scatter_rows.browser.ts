// Rows are scattered by gradients only, which pages do not compute.
import type { DirectImplementation } from "./direct.ts";

export const scatterRows: DirectImplementation = () => null;
