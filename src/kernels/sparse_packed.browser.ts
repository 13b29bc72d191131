// WebAssembly has no loads that expand, so that nothing is packed.
import { HeddleError } from "../ir/error.ts";

export function unpack(): never {
  throw new HeddleError("verify", "internal: packed values without AVX-512");
}
export class Packer {
  pack = unpack;
}
