// 16-bit operands: none, nothing in browsers asks for them.

export const mixedPrecision: typeof import("./mixed_precision.ts").mixedPrecision = () => ({
  name: "mixedPrecision",
  run: (graph) => graph,
});

export const inPrecision: typeof import("./mixed_precision.ts").inPrecision = (graph) => graph;
