// Browsers run networks whose weights are constants: no product is turned around.
import { marchOf } from "./sparse_march.ts";

export const marchApartOf = marchOf;
