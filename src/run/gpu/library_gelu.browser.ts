// WebGPU has no library for products.
import type { DirectImplementation } from "./direct.ts";

export const fitsGeluGrad = (): boolean => false;
export const fitsGeluProduct = fitsGeluGrad;
export const geluProduct: DirectImplementation = () => null;
export const geluGradProduct = geluProduct;
