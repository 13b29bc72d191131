// CumSum to scans: one kernel, or where a few long lines would leave a GPU idle, sums of their parts, a scan of those, and a scan of each part.
import { cast, constant, reduce, select, within } from "../../ir/expr.ts";
import { loadReader } from "../../ir/expr_interpreter.ts";
import type { Node, Reader, TensorType } from "../../ir/graph.ts";
import { addIndex, clampIndex, constIndex, mulIndex, newVar, subIndex, varIndex } from "../../ir/index_expr.ts";
import type { SimtTarget } from "../../ir/simt.ts";
import { elementCount } from "../../ir/tensor.ts";
import { partsOf, type ScanShape, scanKernel, sumType } from "../../kernels/simt/scan.ts";
import { lowerSimtReaders } from "../../lower/simt_group.ts";
import { constantOf } from "../../ops/source.ts";
import { type Place, valuePlace } from "../step.ts";
import type { DirectImplementation } from "./direct.ts";

/** Parts of a line have as many elements at least. */
const LEAST_PART = 1 << 12;
/** Workgroups on a multiprocessor that hide each other's waiting for memory. */
const RESIDENTS = 8;
const MULTIPROCESSORS = 16;

/** Null: sums that no register holds, or an axis that is not known. */
export const cumSum: DirectImplementation = (node, name, target, shared) => {
  const shape = scanShape(node, target);
  const x = node.inputs[0]!; // checked by infer
  if (!shape) return null;
  const generate = (s: ScanShape, as: string) => shared(`scan ${JSON.stringify(s)}`, as, (n) => scanKernel(n, s, target));
  const [own, out] = [valuePlace(x), valuePlace(node.outputs[0])];
  if (!shape.isCut) return [{ kernel: generate(shape, name), places: [own, out] }];
  const reader = partSums(shape);
  const { dtype } = reader.type;
  const kernel = shared(`scan parts ${JSON.stringify(shape)}`, `${name}_parts`, (n) => lowerSimtReaders(n, [reader], [x.type], target));
  const sums = generate({ ...shape, dtype, n: partsOf(shape), part: partsOf(shape), isCut: false, isExclusive: true, isReverse: false }, `${name}_sums`); // biome-ignore format: short
  const [parts, before] = [0, 1].map((id): Place => ({ k: "temporary", id, bytes: 4 * elementCount(reader.type.shape) }));
  return [
    { kernel, places: [own, parts] },
    { kernel: sums, places: [parts, before] },
    { kernel: generate(shape, name), places: [own, before, out] },
  ];
};

function scanShape(node: Node, target: SimtTarget): ScanShape | null {
  const { dtype, shape } = node.outputs[0].type;
  const given = constantOf(node.inputs[1]);
  if (!given || !sumType(dtype)) return null;
  const axis = (Number(given.data[0]) + shape.length) % shape.length;
  const { exclusive, reverse } = node.attrs as { readonly exclusive: number; readonly reverse: number };
  const n = shape[axis];
  const [outer, inner] = [elementCount(shape.slice(0, axis)), elementCount(shape.slice(axis + 1))];
  const wanted = Math.floor((RESIDENTS * (target.units ?? MULTIPROCESSORS)) / (outer * inner));
  const parts = Math.max(1, Math.min(wanted, Math.floor(n / LEAST_PART)));
  return { dtype, outer, n, inner, part: Math.ceil(n / parts), isCut: parts > 1, isExclusive: exclusive !== 0, isReverse: reverse !== 0 };
}

/** Sums of the parts of each line, as (outer, part, inner). */
function partSums(shape: ScanShape): Reader {
  const { dtype, outer, n, inner, part, isReverse } = shape;
  const sums = sumType(dtype)!; // scanShape has looked
  const type: TensorType = { dtype: sums, shape: [outer, partsOf(shape), inner] };
  const x = loadReader({ dtype, shape: [outer, n, inner] }, 0);
  return {
    type,
    at([o, p, i]) {
      const v = newVar(part);
      const k = addIndex(mulIndex(p, part), varIndex(v));
      const inside = clampIndex(k, 0, n - 1);
      const value = x.at([o, isReverse ? subIndex(constIndex(n - 1), inside) : inside, i]);
      const wide = cast(sums, value);
      const isInside = within(k, 0, n);
      return reduce("add", [v], isInside.k === "const" ? wide : select(isInside, wide, constant(sums, 0)));
    },
  };
}
