// Schedules: how the learning rate goes with the steps, computed inside of the compiled step, so that nothing is compiled again.
import { HeddleError } from "../ir/error.ts";
import { type Tensor, where } from "../tensor/index.ts";

/** The learning rate of step number 0, 1, … (f32, a scalar). */
export type Schedule = (step: Tensor) => Tensor;

const checkSteps = (name: string, steps: number): void => {
  if (!(steps > 0)) throw new HeddleError("bad-argument", `${name}: ${steps} steps, wanted more than 0`);
};

/** How far it is in `steps` steps: from 0 to 1, and then 1. */
const progress = (step: Tensor, steps: number): Tensor => step.div(steps).minimum(1);

export const constant =
  (rate: number): Schedule =>
  (step) =>
    step.mul(0).add(rate);

/** From one rate to another in a straight line. */
export function linear(from: number, to: number, steps: number): Schedule {
  checkSteps("linear", steps);
  return (step) => progress(step, steps).mul(to - from).add(from); // biome-ignore format: a formula
}

/** From one rate to another on half a cosine (Loshchilov and Hutter 2017). */
export function cosine(from: number, steps: number, to = 0): Schedule {
  checkSteps("cosine", steps);
  return (step) => progress(step, steps).mul(Math.PI).cos().add(1).mul((from - to) / 2).add(to); // biome-ignore format: a formula
}

/** Times `factor` after every `every` steps. */
export function stepwise(from: number, every: number, factor = 0.1): Schedule {
  checkSteps("stepwise", every);
  return (step) => step.div(every).floor().mul(Math.log(factor)).exp().mul(from);
}

/** The first schedule for `steps` steps, then the second, which counts from 0 again. */
export function chain(first: Schedule, steps: number, second: Schedule): Schedule {
  checkSteps("chain", steps);
  return (step) => where(step.lt(steps), first(step), second(step.sub(steps).maximum(0)));
}

/** Up from almost nothing in `steps` steps, then `schedule` from its beginning. Step 0 is not lost: its rate is 1/steps of the peak. */
export function warmUp(peak: number, steps: number, schedule: Schedule): Schedule {
  checkSteps("warmUp", steps);
  return chain((step) => step.add(1).mul(peak / steps), steps, schedule);
}

export interface OneCycleOptions {
  /** The part of the steps that goes up. */
  readonly up?: number;
  /** How much smaller the first rate is than the peak, and the last than the first. */
  readonly divideFirst?: number;
  readonly divideLast?: number;
}

/** Up to the peak and down to almost nothing, both on half a cosine (Smith and Topin 2018). */
export function oneCycle(peak: number, steps: number, { up = 0.3, divideFirst = 25, divideLast = 1e4 }: OneCycleOptions = {}): Schedule {
  const first = peak / divideFirst;
  const rising = Math.max(1, up * steps);
  return chain(cosine(first, rising, peak), rising, cosine(peak, Math.max(1, steps - rising), first / divideLast));
}
