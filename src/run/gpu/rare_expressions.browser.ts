// In pages, JavaScript computes operators that few networks have.
export const RARE_EXPRESSIONS: typeof import("./rare_expressions.ts").RARE_EXPRESSIONS = {};
