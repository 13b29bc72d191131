// Precisions: browsers ask for none.

export const assertPrecision: typeof import("./precision.ts").assertPrecision = () => {};
