// Convolutions and pools of values, from options as PyTorch names them.
import type { Value } from "../ir/graph.ts";
import { op } from "./build.ts";
import { refuse } from "./trace.ts";

/** One number for all spatial axes, or one for each. */
export type PerAxis = number | readonly number[];

export interface ConvOptions<T> {
  /** One number an output channel. */
  readonly bias?: T;
  readonly stride?: PerAxis;
  /** On both sides of each axis; or as much as keeps the size (stride 1). */
  readonly padding?: PerAxis | "same" | "valid";
  readonly dilation?: PerAxis;
  readonly groups?: number;
}

export interface ConvTransposeOptions<T> extends Omit<ConvOptions<T>, "padding"> {
  readonly padding?: PerAxis;
  /** Added to one side of the output. */
  readonly outputPadding?: PerAxis;
}

export interface PoolOptions {
  /** Default: the size of the window. */
  readonly stride?: PerAxis;
  readonly padding?: PerAxis;
  readonly dilation?: PerAxis;
  /** Sizes are rounded up: the last windows may reach over the end. */
  readonly ceil?: boolean;
}

const spread = (n: PerAxis, count: number): readonly number[] => (typeof n === "number" ? new Array<number>(count).fill(n) : n);

/** ONNX's pads: all beginnings, then all ends. */
const bothSides = (n: PerAxis, count: number): readonly number[] => [...spread(n, count), ...spread(n, count)];

function windowAttrs(
  { stride = 1, padding = 0, dilation = 1 }: { stride?: PerAxis; padding?: PerAxis | "same" | "valid"; dilation?: PerAxis },
  count: number,
): Record<string, string | readonly number[]> {
  const place: Record<string, string | readonly number[]> =
    typeof padding === "string" ? { auto_pad: padding === "same" ? "SAME_UPPER" : "VALID" } : { pads: bothSides(padding, count) };
  return { strides: spread(stride, count), dilations: spread(dilation, count), ...place };
}

/** x (N, C, spatial…) · w (M, C/groups, kernel…). */
export function conv(x: Value, w: Value, options: ConvOptions<Value>): Value {
  const { bias, groups = 1, ...rest } = options;
  const attrs = windowAttrs(rest, Math.max(0, x.type.shape.length - 2));
  return op("Conv", [x, w, ...(bias ? [bias] : [])], { ...attrs, group: groups });
}

/** x (N, C, spatial…) · w (C, M/groups, kernel…). */
export function convTranspose(x: Value, w: Value, options: ConvTransposeOptions<Value>): Value {
  const { bias, groups = 1, outputPadding = 0, ...rest } = options;
  const count = Math.max(0, x.type.shape.length - 2);
  const attrs = { ...windowAttrs(rest, count), output_padding: spread(outputPadding, count), group: groups };
  return op("ConvTranspose", [x, w, ...(bias ? [bias] : [])], attrs);
}

export function pool(
  name: "MaxPool" | "AveragePool",
  x: Value,
  size: PerAxis,
  options: PoolOptions,
  own: Record<string, number> = {},
): Value {
  const count = x.type.shape.length - 2;
  if (count < 1) refuse(`${name}: shape (${x.type.shape}), wanted batch, channels and one spatial axis or more`);
  const { stride = size, padding, dilation, ceil = false } = options;
  const attrs = { ...windowAttrs({ stride, padding, dilation }, count), kernel_shape: spread(size, count), ceil_mode: Number(ceil) };
  return op(name, [x], { ...attrs, ...own });
}
