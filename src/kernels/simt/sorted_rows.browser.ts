// Rows are scattered by gradients only, which pages do not compute.
import { scatterRowsKernel } from "./scatter_rows.ts";

export const fitsSortedRows = (): boolean => false;
export const namedRowsKernel = scatterRowsKernel;
export const rankedPlacesKernel = scatterRowsKernel;
export const sortedRowsKernel = scatterRowsKernel;
