// Products on matrix fragments: none, since browsers' WebGPU has no fragments.
import { invariant } from "../../ir/error.ts";

type Fragments = typeof import("./fragment_product.ts");

export const fragmentProduct: Fragments["fragmentProduct"] = (name) => {
  invariant(false, `${name}: a product on fragments in a browser`);
};
