// Indexing: numbers, ranges and "all of it", one an axis, as a Slice and the removal of the axes that were given by number.
import type { Value } from "../ir/graph.ts";
import { axisOf, ints, op } from "./build.ts";
import { refuse } from "./trace.ts";

/** What is taken of one axis: one place (the axis goes), [start, end, step] as in Python, or null: all. Negative places count from the end. */
export type Range = number | readonly [start: number, end?: number, step?: number] | null;

/** Beyond every axis: ONNX cuts it down. */
const FAR = 2 ** 31 - 1;

export function sliced(x: Value, ranges: readonly Range[]): Value {
  const { shape } = x.type;
  if (ranges.length > shape.length) refuse(`slice: ${ranges.length} ranges for shape (${shape})`);
  const cuts = ranges.flatMap((range, axis) => (range === null ? [] : [{ axis, ...cutOf(range, axis, shape[axis]) }]));
  if (cuts.length === 0) return x;
  const lists = [cuts.map((c) => c.start), cuts.map((c) => c.end), cuts.map((c) => c.axis), cuts.map((c) => c.step)];
  const part = op("Slice", [x, ...lists.map((list) => ints(...list))]);
  const gone = cuts.filter((c) => c.isPlace).map((c) => c.axis);
  return gone.length ? op("Squeeze", [part, ints(...gone)]) : part;
}

function cutOf(range: Exclude<Range, null>, axis: number, size: number): { start: number; end: number; step: number; isPlace: boolean } {
  if (typeof range !== "number") {
    const [start, end, step = 1] = range;
    return { start, end: end ?? (step < 0 ? -FAR : FAR), step, isPlace: false };
  }
  if (!Number.isInteger(range) || range < -size || range >= size)
    refuse(`slice: place ${range} is outside of axis ${axis}, which has ${size}`);
  const start = axisOf("slice", range, size);
  return { start, end: start + 1, step: 1, isPlace: true };
}
