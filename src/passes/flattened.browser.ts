// Products with flattened images stay as they are: in networks that only run they are few and small.
export const flattened: typeof import("./flattened.ts").flattened = { name: "flattened", run: (graph) => graph };
