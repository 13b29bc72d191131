// How sparse a network is at each step while it learns: slowly at the end, where every weight that goes matters (Zhu and Gupta 2018).
import { HeddleError } from "../../ir/error.ts";

export interface CubicSchedule {
  /** Before the first step. Default 0. */
  readonly initial?: number;
  readonly final: number;
  /** The first step at which weights go. Default 0. */
  readonly begin?: number;
  /** From this step on it is the final one. */
  readonly end: number;
}

/** s_f + (s_i − s_f)·(1 − (t − t₀)/(t₁ − t₀))³. */
export function cubicSparsity({ initial = 0, final, begin = 0, end }: CubicSchedule): (step: number) => number {
  if (!(initial >= 0 && initial <= final && final <= 1 && begin < end))
    throw new HeddleError(
      "bad-argument",
      `cubicSparsity: from ${initial} to ${final} in steps ${begin} to ${end}, wanted to rise in 0 to 1`,
    );
  return (step) => {
    const left = 1 - Math.min(1, Math.max(0, (step - begin) / (end - begin)));
    return final + (initial - final) * left ** 3;
  };
}
