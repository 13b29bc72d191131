// WebAssembly's plans have no windows of so many columns.
import { HeddleError } from "../ir/error.ts";

export function wideLookups(): never {
  throw new HeddleError("verify", "internal: wide windows without AVX-512");
}
