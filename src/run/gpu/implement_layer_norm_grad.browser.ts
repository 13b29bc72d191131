// Browsers do not train: no gradient of layer normalization.
import type { DirectImplementation } from "./direct.ts";

export const fitsLayerNormGrad = (): boolean => false;
export const layerNormGrad: DirectImplementation = () => null;
