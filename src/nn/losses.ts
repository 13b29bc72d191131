// Losses: predictions and targets → a scalar to make small.
import { HeddleError } from "../ir/error.ts";
import { arange, type Tensor } from "../tensor/index.ts";

/** What becomes of the losses of single examples or elements. */
export type Reduction = "mean" | "sum" | "none";

function reduced(losses: Tensor, reduction: Reduction): Tensor {
  switch (reduction) {
    case "mean":
      return losses.mean();
    case "sum":
      return losses.sum();
    case "none":
      return losses;
    default:
      return reduction satisfies never;
  }
}

const isInteger = (x: Tensor): boolean => /^[iu]\d/.test(x.dtype);

export interface CrossEntropyOptions {
  /** How much of the target goes evenly to all classes. */
  readonly labelSmoothing?: number;
  /** Targets of this number count for nothing. */
  readonly ignoreIndex?: number;
  readonly reduction?: Reduction;
}

/** logits (N, C, …), target classes as integers (N, …) or probabilities (N, C, …). */
export function crossEntropy(logits: Tensor, target: Tensor, options: CrossEntropyOptions = {}): Tensor {
  const { labelSmoothing = 0, ignoreIndex, reduction = "mean" } = options;
  const axis = logits.rank === 1 ? 0 : 1;
  if (!isInteger(target))
    return reduced(
      logits
        .logSoftmax(axis)
        .mul(smoothed(target, logits.shape[axis], labelSmoothing))
        .sum(axis)
        .neg(),
      reduction,
    );
  if (target.shape.join() !== logits.shape.toSpliced(axis, 1).join())
    throw new HeddleError("bad-argument", `crossEntropy: targets of shape (${target.shape}) for logits of shape (${logits.shape})`);
  const classes = arange(logits.shape[axis], undefined, 1, target.dtype).reshape(perClass(logits, axis));
  // Log-probabilities of all classes would be a tensor as large as the logits: only sums are made of these.
  const logSum = logits.logSumExp(axis);
  const right = logSum.sub(target.unsqueeze(axis).eq(classes).where(logits, 0).sum(axis));
  const losses = labelSmoothing ? right.mul(1 - labelSmoothing).add(logSum.sub(logits.mean(axis)).mul(labelSmoothing)) : right;
  if (ignoreIndex === undefined) return reduced(losses, reduction);
  const counted = target.ne(ignoreIndex);
  const total = counted.where(losses, 0);
  return reduction === "mean" ? total.sum().div(counted.cast(logits.dtype).sum()) : reduced(total, reduction);
}

const perClass = (logits: Tensor, axis: number): number[] => [logits.shape[axis], ...logits.shape.slice(axis + 1).map(() => 1)];

const smoothed = (target: Tensor, classes: number, amount: number): Tensor =>
  amount ? target.mul(1 - amount).add(amount / classes) : target;

/** Squared distance. */
export const mse = (x: Tensor, target: Tensor, reduction: Reduction = "mean"): Tensor => reduced(x.sub(target).square(), reduction);
/** Distance. */
export const l1 = (x: Tensor, target: Tensor, reduction: Reduction = "mean"): Tensor => reduced(x.sub(target).abs(), reduction);

/** Squared within `delta`, linear beyond it. */
export function huber(x: Tensor, target: Tensor, delta = 1, reduction: Reduction = "mean"): Tensor {
  const distance = x.sub(target).abs();
  const near = distance.square().mul(0.5);
  return reduced(distance.lt(delta).where(near, distance.sub(delta / 2).mul(delta)), reduction);
}

/** Of probabilities; logarithms are not below -100, as in PyTorch. */
export function bce(p: Tensor, target: Tensor, reduction: Reduction = "mean"): Tensor {
  const log = (x: Tensor) => x.log().maximum(-100);
  const one = p.mul(-1).add(1);
  return reduced(
    target
      .mul(log(p))
      .add(target.mul(-1).add(1).mul(log(one)))
      .neg(),
    reduction,
  );
}

/** Of logits: log(1 + eˣ) − x · target, which does not overflow. */
export const bceWithLogits = (x: Tensor, target: Tensor, reduction: Reduction = "mean"): Tensor =>
  reduced(x.softplus().sub(x.mul(target)), reduction);

/** Σ target · (log target − logP): from probabilities to log-probabilities. "batchmean" divides by the first size, which is the divergence's definition. */
export function klDivergence(logP: Tensor, target: Tensor, reduction: Reduction | "batchmean" = "batchmean"): Tensor {
  const positive = target.gt(0);
  const losses = positive.where(target.mul(positive.where(target, 1).log().sub(logP)), 0); // 0 log 0 is 0
  return reduction === "batchmean" ? losses.sum().div(logP.shape[0]) : reduced(losses, reduction);
}
