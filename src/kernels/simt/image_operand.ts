// Images as operands of products, gathered on the fly: a row for each position of a window, a column for each tap and channel.
import type { DType } from "../../ir/dtype.ts";
import { bits, fn, int, product, type Reg, type SimtBuilder, sum } from "../../ir/simt.ts";
import { dataSteps, type Slide } from "../../ir/slide.ts";
import { elementCount, stridesOf } from "../../ir/tensor.ts";
import { type Operand, runOf } from "./operand.ts";

/** What is read of a window. */
export type Sliding = Omit<Slide, "padsEnd">;

export interface Image {
  readonly dtype: DType;
  readonly images: number;
  readonly groups: number;
  /** Of a group. */
  readonly channels: number;
  readonly isChannelsLast: boolean;
}

/** Steps in elements between images, groups, channels and along the spatial axes. */
function steps({ channels, groups, isChannelsLast, images }: Image, spatial: readonly number[]) {
  const { batch, channel, position } = dataSteps({ batch: images, channels: channels * groups, spatial }, isChannelsLast ? "NHWC" : "NCHW");
  return { image: batch, group: channels * channel, channel, spatial: stridesOf(spatial).map((s) => s * position) };
}

/** Each axis' part of a row-major number, outermost first. */
function taken(b: SimtBuilder, number: Reg, extents: readonly number[]): readonly Reg[] {
  const parts = new Array<Reg>(extents.length).fill(int(0));
  let rest = number;
  for (let i = extents.length - 1; i >= 0; i--) {
    parts[i] = i === 0 ? rest : b.let(fn("rem", rest, extents[i]));
    if (i > 0) rest = b.let(fn("div", rest, extents[i]));
  }
  return parts;
}

const dot = (places: readonly Reg[], by: readonly number[]): Reg => places.reduce((s, p, i) => sum(s, product(p, by[i])), int(0));
const common = (
  { dtype, images, groups, channels, isChannelsLast }: Image,
  s: Pick<Sliding, "input" | "kernel">,
  rows: readonly number[],
) => ({
  dtype,
  elements: images * groups * channels * elementCount(s.input),
  rows: images * elementCount(rows),
  depth: elementCount(s.kernel) * channels,
  along: isChannelsLast ? ("depth" as const) : ("row" as const),
  // Neighbouring channels are neighbours in memory; neighbouring positions need not be.
  run: isChannelsLast ? runOf(dtype, channels, [channels * groups]) : 1,
});

/** What the window sees at each position: row (image, position), depth (tap, channel); batches are groups of channels. */
export function windowOperand(image: Image, s: Sliding): Operand {
  const by = steps(image, s.input);
  const first = (o: Reg, i: number): Reg => sum(product(o, s.strides[i]), -s.padsBegin[i]);
  const isPadded = s.input.map((d, i) => s.padsBegin[i] > 0 || (s.output[i] - 1) * s.strides[i] + (s.kernel[i] - 1) * s.dilations[i] >= d);
  return {
    ...common(image, s, s.output),
    rowParts(b, batch, row) {
      const [n, ...position] = taken(b, row, [image.images, ...s.output]);
      const at = position.map((o, i) => b.let(first(o, i)));
      return [b.let(sum(product(n, by.image), product(batch, by.group), dot(at, by.spatial))), ...at];
    },
    depthParts(b, depth) {
      const [tap, channel] = taken(b, depth, [elementCount(s.kernel), image.channels]);
      const at = taken(b, tap, s.kernel).map((t, i) => b.let(product(t, s.dilations[i])));
      return [b.let(sum(product(channel, by.channel), dot(at, by.spatial))), ...at];
    },
    spot([from, ...starts], [offset, ...taps]) {
      const inside = starts.flatMap((at, i) => (isPadded[i] ? [below(sum(at, taps[i]), s.input[i])] : []));
      return { at: sum(from, offset), isInside: all(inside) };
    },
  };
}

/** What a window that spreads the image sees from each position of what it spreads to: `s.output` is the larger of the two. */
export function spreadOperand(image: Image, s: Sliding): Operand {
  const by = steps(image, s.input);
  return {
    ...common(image, s, s.output),
    rowParts(b, batch, row) {
      const [n, ...position] = taken(b, row, [image.images, ...s.output]);
      return [b.let(sum(product(n, by.image), product(batch, by.group))), ...position.map((o, i) => b.let(sum(o, s.padsBegin[i])))];
    },
    depthParts(b, depth) {
      const [tap, channel] = taken(b, depth, [elementCount(s.kernel), image.channels]);
      return [b.let(product(channel, by.channel)), ...taken(b, tap, s.kernel).map((t, i) => b.let(product(t, s.dilations[i])))];
    },
    spot([from, ...ends], [offset, ...taps]) {
      const far = ends.map((e, i) => fn("sub", e, taps[i]));
      const inside = far.flatMap((u, i) => {
        const isThere = below(u, s.input[i] * s.strides[i]);
        return s.strides[i] === 1 ? [isThere] : [isThere, fn("eq", fn("rem", u, s.strides[i]), 0)];
      });
      return { at: sum(from, offset, dot(far.map((u, i) => fn("div", u, s.strides[i])), by.spatial)), isInside: all(inside) }; // biome-ignore format: short
    },
  };
}

/** Of an axis that a window spreads over: places of the result that are the same ones of the taps' pattern, `count` patterns from `first` on. */
export interface Phases {
  readonly first: number;
  readonly count: number;
  readonly pad: number;
  readonly stride: number;
  /** Taps that meet such a place, and places of each pattern. */
  readonly taps: number;
  readonly places: number;
}

/**
 * What a spreading window sees from places of equal patterns alone: pattern r is met by taps r, r + stride, …, of which tap u reads `u` before where the first reads.
 * Batches are patterns of each axis, then groups.
 */
export function phaseOperand(image: Image, input: readonly number[], phases: readonly Phases[]): Operand {
  const by = steps(image, input);
  const taps = phases.map((p) => p.taps);
  const places = phases.map((p) => p.places);
  return {
    ...common(image, { input, kernel: taps }, places),
    rowParts(b, batch, row) {
      const [n, ...position] = taken(b, row, [image.images, ...places]);
      const parts = taken(b, batch, [...phases.map((p) => p.count), image.groups]);
      const at = phases.map(({ first, pad, stride }, i) => {
        const skipped = fn("rem", sum(parts[i], first - pad + stride * Math.ceil(pad / stride)), stride);
        return b.let(sum(position[i], fn("div", sum(skipped, pad), stride)));
      });
      return [b.let(sum(product(n, by.image), product(parts[phases.length], by.group), dot(at, by.spatial))), ...at];
    },
    depthParts(b, depth) {
      const [tap, channel] = taken(b, depth, [elementCount(taps), image.channels]);
      const back = taken(b, tap, taps);
      return [b.let(fn("sub", product(channel, by.channel), dot(back, by.spatial))), ...back];
    },
    spot: ([from, ...starts], [offset, ...back]) => ({
      at: sum(from, offset),
      isInside: all(starts.map((at, i) => below(fn("sub", at, back[i]), input[i]))),
    }),
  };
}

/** The same with rows and depth exchanged: what is summed over are the positions. */
export function turnedWindow(image: Image, s: Sliding): Operand {
  const window = windowOperand(image, s);
  const by = steps(image, s.input);
  return {
    ...window,
    rows: window.depth,
    depth: window.rows,
    along: window.along === "depth" ? "row" : "depth",
    rowParts(b, batch, row) {
      const [offset, ...taps] = window.depthParts(b, row);
      return [b.let(sum(offset, product(batch, by.group))), ...taps];
    },
    depthParts: (b, depth) => window.rowParts(b, int(0), depth),
    spot: (row, depth) => window.spot(depth, row),
  };
}

/** 0 ≤ at < end, by one comparison. */
const below = (at: Reg, end: number): Reg => fn("lt", bits("u32", at), end);
const all = (conditions: readonly Reg[]): Reg | null => (conditions.length === 0 ? null : conditions.reduce((a, c) => fn("and", a, c)));
