// Writing at places that data names, as expressions of one element of the result: which updates name it, and what they leave. Equal places are written in order.

import { HeddleError } from "../../ir/error.ts";
import { both, call, cast, constant, type Expr, reduce, select, within } from "../../ir/expr.ts";
import type { Node, Reader } from "../../ir/graph.ts";
import { constIndex, type Index, newVar, subIndex, unlinearIndex, valueIndex, varIndex } from "../../ir/index_expr.ts";
import { elementCount } from "../../ir/tensor.ts";
import { type ExpressionOf, wide } from "./contractions.ts";

/** Each element looks at all updates that may name it: more such looks are not worth a GPU. */
const MOST_LOOKS = 2 ** 36;

/** Update number v of `count`: whether it names the element, and what it writes. */
interface Updates {
  readonly count: number;
  hits(v: Index): Expr;
  value(v: Index): Expr;
}

function written(x: Reader, index: readonly Index[], node: Node, { count, hits, value }: Updates): Expr {
  const { dtype, shape } = node.outputs[0].type;
  if (elementCount(shape) * count > MOST_LOOKS) throw new HeddleError("unsupported", `${node.op.name}: ${count} updates of (${shape})`);
  const old = x.at(index);
  if (count === 0) return old;
  const u = newVar(count);
  const at = varIndex(u);
  const { reduction = "none" } = node.attrs as { readonly reduction?: "none" | "add" | "mul" | "max" | "min" };
  if (reduction === "none") {
    const last = reduce("max", [u], select(hits(at), { k: "index", dtype: "i32", at }, constant("i32", -1)));
    return select(call("lt", last, constant("i32", 0)), old, value(valueIndex(last, 0, count - 1)));
  }
  const own = wide(old);
  const neutral = reduction === "add" ? constant(own.dtype, 0) : reduction === "mul" ? constant(own.dtype, 1) : own;
  const all = reduce(reduction, [u], select(hits(at), wide(value(at)), neutral));
  return cast(dtype, call(reduction, own, all));
}

/** A place in [0, size), counted from the end when it is negative. */
function placeOf(value: Expr, size: number): Index {
  const counted = call("add", value, constant(value.dtype, size));
  return valueIndex(select(call("lt", value, constant(value.dtype, 0)), counted, value), 0, size - 1);
}
const isSame = (a: Index, b: Index): Expr => within(subIndex(a, b), 0, 1);

export const scatterElements: ExpressionOf = ([x, indices, updates], node) => {
  const { shape } = x!.type; // inputs are all there
  const given = (node.attrs as { readonly axis: number }).axis;
  const axis = given < 0 ? given + shape.length : given;
  const from = indices!.type.shape;
  const at = (index: readonly Index[]): Expr => {
    const isMet = index.map((i, k) => (k === axis ? constant("bool", 1) : within(i, 0, from[k]))).reduce(both);
    // Where nothing is met, anything is read.
    const own = index.map((i, k) =>
      from[k] < shape[k] && k !== axis ? valueIndex({ k: "index", dtype: "i32", at: i }, 0, from[k] - 1) : i,
    );
    return written(x!, index, node, {
      count: elementCount(from) === 0 ? 0 : from[axis],
      hits: (v) => both(isMet, isSame(placeOf(indices!.at(own.with(axis, v)), shape[axis]), index[axis])),
      value: (v) => updates!.at(own.with(axis, v)),
    });
  };
  return [{ type: node.outputs[0].type, at }];
};

export const scatterND: ExpressionOf = ([x, indices, updates], node) => {
  const { shape } = x!.type; // inputs are all there
  const rows = indices!.type.shape.slice(0, -1);
  const depth = indices!.type.shape[rows.length];
  const at = (index: readonly Index[]): Expr =>
    written(x!, index, node, {
      count: elementCount(rows),
      hits(v) {
        const row = unlinearIndex(v, rows);
        const isThere = (k: number): Expr => isSame(placeOf(indices!.at([...row, constIndex(k)]), shape[k]), index[k]);
        return Array.from({ length: depth }, (_, k) => isThere(k)).reduce(both);
      },
      value: (v) => updates!.at([...unlinearIndex(v, rows), ...index.slice(depth)]),
    });
  return [{ type: node.outputs[0].type, at }];
};
