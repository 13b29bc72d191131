// Operators that exist for a device's library: where it is to compute them, and the calls.

import type { Node } from "../../ir/graph.ts";
import type { NarrowPrecision } from "../../ir/precision.ts";
import type { SimtTarget } from "../../ir/simt.ts";
import type { DirectImplementation } from "./direct.ts";
import { fitsFloat8Product, float8ProductCalls } from "./library_float8.ts";
import { fitsGeluGrad, fitsGeluProduct, geluGradProduct, geluProduct } from "./library_gelu.ts";
import { fitsInt8Conv, int8ConvCalls } from "./library_int8_conv.ts";
import { fitsIntegerProduct, integerProductCalls } from "./library_integer.ts";

/** Whether there are kernels for a node, with 16-bit copies of its operands where there are to be any. */
export type Fits = (node: Node, narrow: NarrowPrecision | undefined, target: SimtTarget) => boolean;

export const LIBRARY_CALLS: Readonly<Record<string, DirectImplementation>> = {
  MatMulInteger: integerProductCalls,
  Float8MatMul: float8ProductCalls,
  Int8Conv: int8ConvCalls,
  GeluProduct: geluProduct,
  GeluGradProduct: geluGradProduct,
};

export const LIBRARY_FITS: Readonly<Record<string, Fits>> = {
  MatMulInteger: fitsIntegerProduct,
  Float8MatMul: fitsFloat8Product,
  Int8Conv: fitsInt8Conv,
  GeluGrad: fitsGeluGrad,
  GeluProduct: fitsGeluProduct,
  GeluGradProduct: fitsGeluProduct,
};
