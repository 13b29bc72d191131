// A network that shall lose most of its weights while it learns → which, when, and which not: what cost least where it was tried.
import { HeddleError } from "../../ir/error.ts";
import type { Module } from "../../nn/index.ts";
import { GradualPruner, type MaskOptions, sizeOf } from "./masked.ts";
import { cubicSparsity } from "./schedule.ts";

export interface WhileLearning extends Pick<MaskOptions, "grain" | "scope"> {
  /** The part of all weights with two axes or more that is zero in the end. */
  readonly sparsity: number;
  /** Of the training. */
  readonly steps: number;
}

/** Weights go between these parts of the steps: while rates are high; what stays learns on while they fall. */
const [BEGIN, END] = [0.2, 0.85];

/** The first and the last layer stay whole where each is no more than this part of the weights: little is gained by them, and all that is seen and said goes through. */
const SMALL = 0.01;

/** A pruner for a training of so many steps. Layers compete by LAMP. Throws HeddleError ("bad-argument"). */
export function whileLearning(model: Module, { sparsity, steps, grain, scope = "lamp" }: WhileLearning): GradualPruner {
  const weights = model.parameters().filter(({ shape }) => shape.length > 1);
  const all = sizeOf(weights);
  const whole = [weights[0], weights[weights.length - 1]].filter((w) => w && sizeOf([w]) <= SMALL * all);
  const masked = weights.filter((w) => !whole.includes(w));
  if (masked.length === 0) throw new HeddleError("bad-argument", "prune: the model has no weights with two axes or more to prune");
  const schedule = cubicSparsity({ final: sparsity, begin: Math.round(BEGIN * steps), end: Math.round(END * steps) });
  return new GradualPruner(masked, { sparsity: schedule, scope, grain, whole });
}
