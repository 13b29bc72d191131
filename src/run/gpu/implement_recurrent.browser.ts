// Pages run long recurrent layers in JavaScript.
import type { DirectImplementation } from "./direct.ts";

export const recurrentLoop: DirectImplementation = () => null;
