// x · clip(x + 3, 0, 6) / 6 and its kin become HardSwish and HardSigmoid; x · sigmoid(a·x) becomes Swish.
import { apply, type Pass, type Value } from "../ir/graph.ts";
import { OPS } from "../ops/index.ts";
import { isClose, madeBy, numberOf, pairs, plusNumber, rulePass } from "./match.ts";
import { gateRule, multipleOf } from "./product.ts";

/** min(max(of, lo), hi), however it is written. */
function clipOf(value: Value): { of: Value; lo: number; hi: number } | undefined {
  const clip = madeBy(value, "Clip");
  if (clip) {
    const [of, lo, hi] = clip.inputs;
    const [a, b] = [numberOf(lo), numberOf(hi)];
    return a !== undefined && b !== undefined ? { of: of!, lo: a, hi: b } : undefined;
  }
  const min = madeBy(value, "Min");
  if (min?.inputs.length !== 2) return undefined;
  for (const [inner, bound] of pairs(min)) {
    const hi = numberOf(bound);
    const relu = madeBy(inner, "Relu");
    if (hi !== undefined && relu) return { of: relu.inputs[0]!, lo: 0, hi };
  }
  return undefined;
}

/** alpha where value = clip(alpha·x + 1/2, 0, 1) · scale; that is a HardSigmoid whose beta is 1/2. */
function hardSigmoidOf(value: Value, x: Value): { alpha: number; scale: number } | undefined {
  const made = madeBy(value, "HardSigmoid");
  if (made) {
    const { alpha, beta } = made.attrs as { alpha: number; beta: number };
    return made.inputs[0] === x && isClose(beta, 0.5) ? { alpha, scale: 1 } : undefined;
  }
  const clip = clipOf(value);
  const sum = clip && clip.lo === 0 && plusNumber(clip.of, "Add");
  if (!sum || !isClose(sum.number, clip.hi / 2)) return undefined;
  const slope = multipleOf(sum.x, x);
  return slope === undefined ? undefined : { alpha: slope / clip.hi, scale: clip.hi };
}

export const hardSwish: Pass = rulePass(
  "hard swish",
  gateRule((x, gate, number, node) => {
    const hard = hardSigmoidOf(gate, x);
    if (hard && isClose(hard.alpha, 1 / 6) && isClose(hard.scale * number, 1)) return apply(OPS.get("HardSwish")!, [x], {}, node.from)[0];
    const sigmoid = isClose(number, 1) ? madeBy(gate, "Sigmoid") : undefined;
    const alpha = sigmoid && multipleOf(sigmoid.inputs[0]!, x);
    return alpha === undefined ? null : apply(OPS.get("Swish")!, [x], { alpha }, node.from)[0];
  }),
);
