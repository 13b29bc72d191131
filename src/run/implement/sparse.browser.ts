// Layers with sparse weights in a page: none, they are multiplied as dense ones, which keeps 5 kB of kernels out of the bundle.
type Sparse = typeof import("./sparse.ts");

export const sparseProduct: Sparse["sparseProduct"] = () => null;
export const rowsTimesSparse: Sparse["rowsTimesSparse"] = () => null;
