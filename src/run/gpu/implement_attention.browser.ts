// Attention on matrix units: browsers have none.
import type { DirectImplementation } from "./direct.ts";

export const fitsAttention = (): boolean => false;
export const headAttention: DirectImplementation = () => null;
export const headAttentionGrad: DirectImplementation = () => null;
