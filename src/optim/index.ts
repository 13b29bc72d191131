// Optimizers, schedules of their learning rates, clipping and moving averages.
export { Adam, type AdamOptions, AdamW } from "./adam.ts";
export { type Clipped, clipGradNorm, gradNorm } from "./clip.ts";
export { EMA } from "./ema.ts";
export { Lion, type LionOptions } from "./lion.ts";
export { LossScale, type LossScaleOptions } from "./loss_scale.ts";
export { type LearningRate, Optimizer, ratesOf } from "./optimizer.ts";
export type { OneCycleOptions, Schedule } from "./schedule.ts";
export * as schedule from "./schedule.ts";
export { SGD, type SgdOptions } from "./sgd.ts";
