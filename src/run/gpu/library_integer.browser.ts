// Products of bytes by a library: browsers have none.

export const fitsIntegerProduct: typeof import("./library_integer.ts").fitsIntegerProduct = () => false;
export const integerProductCalls: typeof import("./library_integer.ts").integerProductCalls = () => null;
