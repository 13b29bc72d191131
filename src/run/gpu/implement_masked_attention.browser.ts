// Attention with scores in registers: browsers multiply, as its kernel is more code than they should load.
import type { DirectImplementation } from "./direct.ts";

export const fitsMaskedAttention = (): boolean => false;
export const maskedAttention: DirectImplementation = () => null;
