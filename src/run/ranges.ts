// What integers of 64 bits may be, as far as the operators that made them tell: places and counts fit 32 bits, and so does most arithmetic on them.
import { HeddleError } from "../ir/error.ts";
import { loadReader } from "../ir/expr_interpreter.ts";
import type { Reader, TensorType, Value } from "../ir/graph.ts";
import { Group, groupAttrs } from "../ir/group.ts";
import { newVar, varIndex } from "../ir/index_expr.ts";
import { elementCount, type TensorData } from "../ir/tensor.ts";
import { composeReaders } from "../lower/compose.ts";
import { intervalOf } from "../lower/scalar.ts";
import { constantOf } from "../ops/source.ts";

type Range = readonly [number, number];

/** Nodes behind each other that are looked at. */
const MOST_NODES = 64;
/** Elements of a constant that are looked at. */
const MOST_ELEMENTS = 1 << 16;

const known = new WeakMap<Value, Range | null>();

/** Reads input i of a kernel, which is reads[i]. */
export const rangedLeaf =
  (reads: readonly (Value | null)[], depth = 0) =>
  (input: number, type: TensorType): Reader => {
    const value = reads[input];
    return loadReader(type, input, (value && rangeOf(value, depth)) ?? undefined);
  };

/** Null: not known. */
function rangeOf(value: Value, depth: number): Range | null {
  if (value.type.dtype !== "i64" || depth > MOST_NODES) return null;
  let range = known.get(value);
  if (range === undefined) {
    range = computed(value, depth + 1);
    known.set(value, range);
  }
  return range;
}

function computed(value: Value, depth: number): Range | null {
  const { node, index } = value;
  const data = constantOf(value);
  if (data) return rangeOfConstant(data);
  const told = node.op.range?.(node, index);
  if (told) return told;
  const leaf = rangedLeaf(node.inputs, depth);
  try {
    const readers =
      node.op === Group
        ? composeReaders(groupAttrs(node).body, leaf)
        : node.op.lower?.(
            node.inputs.map((v, i) => v && leaf(i, v.type)),
            node,
          );
    const reader = readers?.[index];
    return reader ? intervalOf(reader.at(reader.type.shape.map((d) => varIndex(newVar(d))))) : null;
  } catch (e) {
    if (e instanceof HeddleError) return null; // it has no expression
    throw e;
  }
}

function rangeOfConstant({ data, shape }: TensorData): Range | null {
  if (elementCount(shape) === 0 || elementCount(shape) > MOST_ELEMENTS) return null;
  let [least, largest] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (const v of data) {
    least = Math.min(least, Number(v));
    largest = Math.max(largest, Number(v));
  }
  return [least, largest];
}
