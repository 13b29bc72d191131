// Logic on booleans and on the bits of integers, and selection by a boolean.
import { call, select } from "../ir/expr.ts";
import type { Op } from "../ir/graph.ts";
import { ALL, bool, f32, INTEGERS, i32, i64, tensorOf, UNSIGNED, u8 } from "./define.ts";
import { binary, mapOp } from "./elementwise.ts";
import { broadcasting } from "./gradient.ts";

const booleans = [{ inputs: [bool(3, 5), bool(3, 5)] }, { inputs: [bool(2, 1, 3), bool(4, 1)] }];
const integers = [{ inputs: [i32(3, 5), i32(5)] }, { inputs: [u8(7), u8(7)] }];

const Not: Op = mapOp<object>({
  name: "Not",
  arity: 1,
  dtypes: ["bool"],
  value: ([x]) => call("not", x),
  samples: [{ inputs: [bool(3, 5)] }, { inputs: [bool()] }],
});

const BitwiseNot: Op = mapOp<object>({
  name: "BitwiseNot",
  arity: 1,
  dtypes: INTEGERS,
  value: ([x]) => call("bitnot", x),
  samples: [{ inputs: [i32(3, 5)] }, { inputs: [u8(7)] }],
});

const BitShift: Op = mapOp<{ direction: string }>({
  name: "BitShift",
  arity: 2,
  dtypes: UNSIGNED,
  attrs: { direction: { type: "string" } },
  check: (_, { direction }) =>
    direction === "LEFT" || direction === "RIGHT" ? undefined : `direction is ${direction}, wanted LEFT or RIGHT`,
  value: ([a, b], { direction }) => call(direction === "LEFT" ? "shl" : "shr", a, b),
  samples: [
    { inputs: [u8(5), tensorOf("u8", [0, 1, 2, 3, 7])], attrs: { direction: "LEFT" } },
    { inputs: [tensorOf("u32", [16, 255, 4294967295]), tensorOf("u32", [1, 2, 3])], attrs: { direction: "RIGHT" } },
  ],
});

const Where: Op = mapOp<object>({
  name: "Where",
  arity: 3,
  dtypes: ALL,
  dtypesOf: { 0: ["bool"] },
  sameFrom: 1,
  result: (_, __, inputs) => inputs[1]!.type.dtype, // infer has checked that it is there
  value: ([cond, a, b]) => select(cond, a, b),
  vjp: broadcasting((f, { x: [condition], dy }, i) => (i === 1 ? f.where(condition, dy, 0) : f.where(condition, 0, dy))),
  samples: [
    { inputs: [bool(3, 5), f32(3, 5), f32(5)] },
    { inputs: [bool(2, 1, 1), f32(3, 1), f32(7)] },
    { inputs: [bool(3), i64(3), i64()] },
  ],
});

export const logicOps: readonly Op[] = [
  binary("And", ["bool"], "and", { samples: booleans }),
  binary("Or", ["bool"], "or", { samples: booleans }),
  binary("Xor", ["bool"], "xor", { samples: booleans }),
  binary("BitwiseAnd", INTEGERS, "bitand", { samples: integers }),
  binary("BitwiseOr", INTEGERS, "bitor", { samples: integers }),
  binary("BitwiseXor", INTEGERS, "bitxor", { samples: integers }),
  Not,
  BitwiseNot,
  BitShift,
  Where,
];
