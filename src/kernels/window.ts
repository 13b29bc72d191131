// One axis of a sliding window: which taps fall inside the input, and which stretches of outputs see the same taps.
import { invariant } from "../ir/error.ts";
import { type Int, type KernelBuilder, plus, times } from "../ir/kernel.ts";

/** Output o reads the input at stride·o + offset + dilation·j for each tap j. */
export interface WindowAxis {
  readonly outputs: number;
  readonly inputs: number;
  readonly taps: number;
  readonly stride: number;
  /** Input position of tap 0 of output 0: minus the padding. */
  readonly offset: number;
  /** Input step from tap to tap; negative for transposed convolutions. */
  readonly dilation: number;
}

/** An axis without a window: output o reads input o. */
export const plainAxis = (extent: number): WindowAxis => ({ outputs: extent, inputs: extent, taps: 1, stride: 1, offset: 0, dilation: 1 });

/** Taps [lo, hi) of output o that lie inside the input. */
export function tapRange(axis: WindowAxis, o: number): [lo: number, hi: number] {
  const inside = (j: number): boolean => {
    const at = axis.stride * o + axis.offset + axis.dilation * j;
    return at >= 0 && at < axis.inputs;
  };
  let lo = 0;
  while (lo < axis.taps && !inside(lo)) lo++;
  let hi = lo;
  while (hi < axis.taps && inside(hi)) hi++;
  return [lo, hi];
}

/** Tiles of `width` outputs that see the same taps: number of tiles `count`, the first one at output `from`. */
export interface TileRun {
  readonly from: number;
  readonly count: number;
  readonly width: number;
  /** For each output of a tile its taps inside the input. */
  readonly taps: readonly (readonly [lo: number, hi: number])[];
}

/** Cuts an axis into tiles of at most `width` outputs, and joins neighbours that see the same taps. */
export function tileRuns(axis: WindowAxis, width: number): TileRun[] {
  const runs: { from: number; count: number; width: number; taps: [number, number][]; key: string }[] = [];
  for (let from = 0; from < axis.outputs; from += width) {
    const size = Math.min(width, axis.outputs - from);
    const taps = Array.from({ length: size }, (_, i) => tapRange(axis, from + i));
    const key = `${size}:${taps.join(";")}`;
    const last = runs[runs.length - 1];
    if (last?.key === key) last.count++;
    else runs.push({ from, count: 1, width: size, taps, key });
  }
  return runs;
}

/** Whether every output sees all taps. */
export const isUnclipped = (axis: WindowAxis): boolean => {
  const ends = [0, axis.outputs - 1].map((o) => tapRange(axis, o));
  return ends.every(([lo, hi]) => lo === 0 && hi === axis.taps);
};

/** Loops over the taps of output `o` inside the input: `body(tap, position)`. */
export function overTaps(b: KernelBuilder, axis: WindowAxis, o: Int, body: (tap: Int, position: Int) => void): void {
  const { taps, stride, offset, dilation, inputs } = axis;
  const start = plus(times(o, stride), offset);
  if (taps === 1 && isUnclipped(axis)) {
    body(0, start);
    return;
  }
  const [lo, hi] = tapBounds(b, axis, o);
  b.loop(lo, hi, 1, (tap) => {
    // The bounds keep it inside; clamping is what proves it.
    const at = b.max(b.min(plus(start, times(tap, dilation)), inputs - 1), 0);
    body(tap, at);
  });
  invariant(taps > 0, "a window without taps");
}

/** Taps [lo, hi) of output `o` inside the input, computed at run time. */
export function tapBounds(b: KernelBuilder, axis: WindowAxis, o: Int): [lo: Int, hi: Int] {
  const { taps, stride, offset, dilation, inputs } = axis;
  if (isUnclipped(axis)) return [0, taps];
  const start = plus(times(o, stride), offset);
  const step = Math.abs(dilation);
  // dilation > 0: start + step·j ≥ 0 from j = ⌈−start/step⌉ on, < inputs until ⌈(inputs − start)/step⌉. Mirrored when negative.
  const first = dilation > 0 ? times(start, -1) : plus(start, 1 - inputs);
  const end = dilation > 0 ? plus(inputs, times(start, -1)) : plus(start, 1);
  const ceil = (a: Int): Int => (step === 1 ? a : b.div(plus(a, step - 1), step));
  return [b.min(b.max(ceil(first), 0), taps), b.max(b.min(ceil(end), taps), 0)];
}
