// Rows are scattered by gradients only, which pages do not compute.
import { invariant } from "../../ir/error.ts";

type ScatterRows = typeof import("./scatter_rows.ts");

export const fitsScatterRows: ScatterRows["fitsScatterRows"] = () => false;
export const scatterRowsKernel: ScatterRows["scatterRowsKernel"] = (name) => {
  invariant(false, `${name}: a kernel for scattered rows in a browser`);
};
