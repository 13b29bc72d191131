// Sliding windows over spatial axes: resolves the attributes of convolutions and pools into explicit sizes and pads, and walks the windows.
import { HeddleError } from "../ir/error.ts";
import { type AttrSpec, type Attrs, apply, type Node, type Op, type PermuteContext, type Value } from "../ir/graph.ts";
import type { Axes, Layout, Slide } from "../ir/slide.ts";
import { elementCount, type Shape, stridesOf } from "../ir/tensor.ts";

/** Attributes that all sliding operators share. `layout` is heddle's own. */
export interface SlideAttrs {
  readonly auto_pad: string;
  readonly dilations?: readonly number[];
  readonly kernel_shape?: readonly number[];
  readonly pads?: readonly number[];
  readonly strides?: readonly number[];
  readonly layout: Layout;
}

export const SLIDE_ATTRS: Readonly<Record<keyof SlideAttrs, AttrSpec>> = {
  auto_pad: { type: "string", default: "NOTSET" },
  dilations: { type: "ints", optional: true },
  kernel_shape: { type: "ints", optional: true },
  pads: { type: "ints", optional: true },
  strides: { type: "ints", optional: true },
  layout: { type: "string", default: "NCHW", own: true },
};

/** Splits a data shape by its layout. Throws for fewer than three axes. */
export function splitAxes(op: string, shape: Shape, layout: Layout): Axes {
  if (layout !== "NCHW" && layout !== "NHWC") throw new HeddleError("bad-model", `${op}: layout is ${layout}, wanted NCHW or NHWC`);
  if (shape.length < 3)
    throw new HeddleError("bad-model", `${op}: input 0 is (${shape}), wanted batch, channels and one spatial axis or more`);
  return layout === "NCHW"
    ? { batch: shape[0], channels: shape[1], spatial: shape.slice(2) }
    : { batch: shape[0], channels: shape[shape.length - 1], spatial: shape.slice(1, -1) };
}

export const joinAxes = ({ batch, channels, spatial }: Axes, layout: Layout): number[] =>
  layout === "NCHW" ? [batch, channels, ...spatial] : [batch, ...spatial, channels];

/** A list attribute with one number an axis, each at least `least`. */
export function perAxis(op: string, name: string, given: readonly number[] | undefined, count: number, least: number): readonly number[] {
  const list = given?.length ? given : new Array<number>(count).fill(least);
  if (list.length !== count) throw new HeddleError("bad-model", `${op}: ${name} (${list}) has ${list.length} numbers, wanted ${count}`);
  if (list.some((n) => !Number.isInteger(n) || n < least || n > 2 ** 31))
    throw new HeddleError("bad-model", `${op}: ${name} (${list}) must be whole numbers of at least ${least}`);
  return list;
}

export const AUTO_PADS: readonly string[] = ["NOTSET", "", "VALID", "SAME_UPPER", "SAME_LOWER"];

/** Resolves auto_pad, defaults and ceil_mode. Throws HeddleError where the window does not fit. */
export function slide(op: string, input: readonly number[], kernel: readonly number[], attrs: SlideAttrs, isCeil = false): Slide {
  const rank = input.length;
  const strides = perAxis(op, "strides", attrs.strides, rank, 1);
  const dilations = perAxis(op, "dilations", attrs.dilations, rank, 1);
  const pads = perAxis(op, "pads", attrs.pads, 2 * rank, 0);
  if (!AUTO_PADS.includes(attrs.auto_pad))
    throw new HeddleError("bad-model", `${op}: auto_pad is ${attrs.auto_pad}, wanted ${AUTO_PADS.join(", ")}`);
  const isSame = attrs.auto_pad.startsWith("SAME");
  const isValid = attrs.auto_pad === "VALID";
  const reach = kernel.map((k, i) => (k - 1) * dilations[i] + 1); // elements between the ends of the window, both included
  const total = (i: number) => Math.max(0, (Math.ceil(input[i] / strides[i]) - 1) * strides[i] + reach[i] - input[i]);
  const half = (i: number) => (attrs.auto_pad === "SAME_LOWER" ? Math.ceil(total(i) / 2) : Math.floor(total(i) / 2));
  const padsBegin = input.map((_, i) => (isSame ? half(i) : isValid ? 0 : pads[i]));
  const padsEnd = input.map((_, i) => (isSame ? total(i) - half(i) : isValid ? 0 : pads[rank + i]));
  const output = input.map((d, i) => {
    const room = d + padsBegin[i] + padsEnd[i] - reach[i];
    if (d > 0 && room < 0)
      throw new HeddleError(
        "bad-model",
        `${op}: window of ${reach[i]} is larger than the padded input ${d + padsBegin[i] + padsEnd[i]} on spatial axis ${i}`,
      );
    if (isSame) return Math.ceil(d / strides[i]);
    const count = Math.max(0, (isCeil ? Math.ceil(room / strides[i]) : Math.floor(room / strides[i])) + 1);
    // A window that would begin behind the input and its first pads is dropped (as PyTorch does).
    return isCeil && count > 0 && (count - 1) * strides[i] >= d + padsBegin[i] ? count - 1 : count;
  });
  return { input, output, kernel, strides, dilations, padsBegin, padsEnd };
}

/** Numbers [first, end) of the taps of an axis that fall inside of the input when the window stands at `start`. */
function tapRange(s: Slide, axis: number, start: number): [number, number] {
  const first = Math.max(0, Math.ceil(-start / s.dilations[axis]));
  return [first, Math.min(s.kernel[axis], Math.floor((s.input[axis] - 1 - start) / s.dilations[axis]) + 1)];
}

/** The places of one window that fall inside of the input: number in the kernel and in the input, both row-major. */
export interface Taps {
  count: number;
  readonly kernel: number[];
  readonly input: number[];
}

/** Calls `visit` for every output position (row-major) with the taps of its window; the object is used again for the next one. */
export function visitWindows(s: Slide, visit: (position: number, taps: Taps) => void): void {
  const rank = s.input.length;
  const inputSteps = stridesOf(s.input);
  const kernelSteps = stridesOf(s.kernel);
  const at = new Array<number>(rank).fill(0);
  const taps: Taps = { count: 0, kernel: [], input: [] };
  const fill = (axis: number, kernelAt: number, inputAt: number): void => {
    if (axis === rank) {
      taps.kernel[taps.count] = kernelAt;
      taps.input[taps.count++] = inputAt;
      return;
    }
    const start = at[axis] * s.strides[axis] - s.padsBegin[axis];
    const [first, end] = tapRange(s, axis, start);
    for (let k = first; k < end; k++)
      fill(axis + 1, kernelAt + k * kernelSteps[axis], inputAt + (start + k * s.dilations[axis]) * inputSteps[axis]);
  };
  const count = elementCount(s.output);
  for (let position = 0; position < count; position++) {
    taps.count = 0;
    fill(0, 0, 0);
    visit(position, taps);
    for (let axis = rank - 1; axis >= 0 && ++at[axis] === s.output[axis]; axis--) at[axis] = 0;
  }
}

/** How many places of the window at each output position lie in the input or its pads. */
export function coveredCounts(s: Slide): Float64Array {
  const padded: Slide = { ...s, input: s.input.map((d, i) => d + s.padsBegin[i] + s.padsEnd[i]) };
  const spans = s.output.map((d, axis) =>
    Array.from({ length: d }, (_, i) => {
      const [first, end] = tapRange(padded, axis, i * s.strides[axis]);
      return Math.max(0, end - first);
    }),
  );
  return Float64Array.from(spans.reduce<number[]>((all, span) => all.flatMap((n) => span.map((m) => n * m)), [1]));
}

/** The layout of a data tensor of `layout` after its axes were permuted by `order`; undefined: neither. */
export function permutedLayout(order: readonly number[], layout: Layout): Layout | undefined {
  const rank = order.length;
  const spatial = Array.from({ length: rank - 2 }, (_, i) => i + 1);
  const wanted = layout === "NCHW" ? [0, ...spatial.map((i) => i + 1), 1] : [0, rank - 1, ...spatial];
  if (order.every((a, i) => a === i)) return layout;
  return order.every((a, i) => a === wanted[i]) ? (layout === "NCHW" ? "NHWC" : "NCHW") : undefined;
}

/** Attributes from a file, which knows nothing of layouts. */
export function slideAttrs(op: string, attrs: Attrs): Attrs {
  if ("layout" in attrs) throw new HeddleError("bad-model", `${op}: attribute layout is unknown to ONNX`);
  return attrs;
}

/** `permute` for operators with a layout: the other layout of the same operator. */
export function permuteLayout<A extends { readonly layout: Layout }>(
  op: () => Op,
): (c: PermuteContext, node: Node<A>) => readonly Value[] | undefined {
  return (context, node) => {
    const layout = permutedLayout(context.order, node.attrs.layout);
    if (!layout) return undefined;
    const inputs = node.inputs.map((v, i) => (i === 0 ? context.permuted(0) : v && context.kept(i)));
    return apply(op(), inputs, { ...(node.attrs as object), layout }, node.from);
  };
}
