// Pages join many tensors in JavaScript.
export const concatInTurns: typeof import("./implement_concat.ts").concatInTurns = () => null;
