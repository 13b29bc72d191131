// A window that slides over spatial axes, and how the axes of what it slides over lie in memory.
import { elementCount } from "./tensor.ts";

/** Where the channels are: axis 1 (ONNX), or innermost. */
export type Layout = "NCHW" | "NHWC";

/** All lists have one number a spatial axis, outermost first. */
export interface Slide {
  readonly input: readonly number[];
  readonly output: readonly number[];
  readonly kernel: readonly number[];
  readonly strides: readonly number[];
  readonly dilations: readonly number[];
  readonly padsBegin: readonly number[];
  readonly padsEnd: readonly number[];
}

/** The axes of a data tensor by their meaning. */
export interface Axes {
  readonly batch: number;
  readonly channels: number;
  readonly spatial: readonly number[];
}

/** Steps in elements between batches, channels and spatial positions (counted row-major). */
export function dataSteps({ channels, spatial }: Axes, layout: Layout): { batch: number; channel: number; position: number } {
  const positions = elementCount(spatial);
  return layout === "NCHW"
    ? { batch: channels * positions, channel: positions, position: 1 }
    : { batch: channels * positions, channel: 1, position: channels };
}
