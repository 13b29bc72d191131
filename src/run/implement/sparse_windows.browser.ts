// Convolutions with sparse weights in a page: they are computed as dense ones.
export const sparseWindows: typeof import("./sparse_windows.ts").sparseWindows = () => null;
