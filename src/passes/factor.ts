// x + x·s becomes x·(s + 1) where s is smaller than x: the sum moves to the small tensor.
import { apply, type Pass } from "../ir/graph.ts";
import { elementCount, fromNumbers } from "../ir/tensor.ts";
import { OPS } from "../ops/index.ts";
import { constantValue } from "../ops/source.ts";
import { madeBy, pairs, rulePass } from "./match.ts";

export const factor: Pass = rulePass("factor", (node, inputs) => {
  if (node.op.name !== "Add") return null;
  for (const [x, y] of pairs({ ...node, inputs })) {
    const mul = madeBy(y, "Mul");
    if (!mul) continue;
    for (const [same, s] of pairs(mul)) {
      if (same !== x || elementCount(s.type.shape) * 2 > elementCount(x.type.shape)) continue;
      const one = constantValue(fromNumbers(s.type.dtype, [], [1]), node.from);
      const [grown] = apply(OPS.get("Add")!, [s, one], {}, node.from);
      return apply(OPS.get("Mul")!, [x, grown], {}, node.from);
    }
  }
  return null;
});
