// Attention is products and a softmax in browsers, whose passes do not look for it.
type Attention = typeof import("./attention.ts");

export const ATTENTION_ALONE: Attention["ATTENTION_ALONE"] = [];
export const keepsAttention: Attention["keepsAttention"] = () => false;
