// Operators that are kept whole where there are kernels, or a library's calls, for them; elsewhere they are made of others.
import type { DirectImplementation } from "./direct.ts";
import { fitsAttention, headAttention, headAttentionGrad } from "./implement_attention.ts";
import { fitsLayerNormGrad, layerNormGrad } from "./implement_layer_norm_grad.ts";
import { fitsMaskedAttention, maskedAttention } from "./implement_masked_attention.ts";
import { type Fits, LIBRARY_CALLS, LIBRARY_FITS } from "./library_operators.ts";

export const KEPT_CALLS: Readonly<Record<string, DirectImplementation>> = {
  HeadAttention: headAttention,
  HeadAttentionGrad: headAttentionGrad,
  MaskedAttention: maskedAttention,
  LayerNormGrad: layerNormGrad,
  ...LIBRARY_CALLS,
};

export const KEPT_FITS: Readonly<Record<string, Fits>> = {
  HeadAttention: fitsAttention,
  HeadAttentionGrad: fitsAttention,
  MaskedAttention: fitsMaskedAttention,
  LayerNormGrad: fitsLayerNormGrad,
  ...LIBRARY_FITS,
};
