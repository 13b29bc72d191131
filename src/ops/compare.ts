// Comparisons and tests: numbers in, booleans out.
import { both, call, constant } from "../ir/expr.ts";
import type { Op } from "../ir/graph.ts";
import { ALL, bool, FLOATS, f32, i64, NUMBERS, tensorOf } from "./define.ts";
import { binary, mapOp, unary } from "./elementwise.ts";

const samples = [
  { inputs: [f32(3, 17), f32(3, 17)] },
  { inputs: [f32(2, 1, 5), f32(7, 1)] },
  { inputs: [i64(3, 3), tensorOf("i64", [-1, 0, 1])] },
];

const IsInf: Op = mapOp<{ detect_negative: number; detect_positive: number }>({
  name: "IsInf",
  arity: 1,
  dtypes: FLOATS,
  attrs: { detect_negative: { type: "int", default: 1 }, detect_positive: { type: "int", default: 1 } },
  result: () => "bool",
  value([x], { detect_negative, detect_positive }) {
    if (!detect_negative && !detect_positive) return constant("bool", 0);
    const isInf = call("isinf", x);
    if (detect_negative && detect_positive) return isInf;
    return both(isInf, call(detect_positive ? "gt" : "lt", x, constant(x.dtype, 0)));
  },
  samples: [
    { inputs: [tensorOf("f32", [1, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, Number.NaN, 0])] },
    { inputs: [tensorOf("f32", [1, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY])], attrs: { detect_negative: 0 } },
  ],
});

export const compareOps: readonly Op[] = [
  binary("Equal", ALL, "eq", { samples: [...samples, { inputs: [bool(2, 3), bool(3)] }], result: "bool" }),
  binary("Greater", NUMBERS, "gt", { samples, result: "bool" }),
  binary("GreaterOrEqual", NUMBERS, "ge", { samples, result: "bool" }),
  binary("Less", NUMBERS, "lt", { samples, result: "bool" }),
  binary("LessOrEqual", NUMBERS, "le", { samples, result: "bool" }),
  unary("IsNaN", FLOATS, "isnan", { result: "bool" }),
  IsInf,
];
