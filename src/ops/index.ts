// The operator table: every operator by its ONNX name.
import type { Op } from "../ir/graph.ts";
import { activationOps } from "./activation.ts";
import { arithmeticOps } from "./arithmetic.ts";
import { castOps } from "./cast.ts";
import { compareOps } from "./compare.ts";
import { logicOps } from "./logic.ts";
import { mathOps } from "./math.ts";

const families: readonly (readonly Op[])[] = [arithmeticOps, mathOps, activationOps, compareOps, logicOps, castOps];

/** Operators by name. */
export const OPS: ReadonlyMap<string, Op> = new Map(families.flat().map((op) => [op.name, op]));

export { evaluateGraph, evaluateNode } from "./evaluate.ts";
