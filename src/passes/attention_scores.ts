// Reads attention out of a graph: what is multiplied, what its scores are multiplied by, which of them are hidden and what is added.
import { isFloat } from "../ir/dtype.ts";
import type { Node, Value } from "../ir/graph.ts";
import { elementCount, type Shape, type TensorData, toNumbers } from "../ir/tensor.ts";
import type { ScoreWeightsAttrs } from "../ops/score_weights.ts";
import { constantOf } from "../ops/source.ts";
import { madeBy, numberOf, pairs, plusNumber, sameShape } from "./match.ts";
import { permOf, reshaped, transposed } from "./view_algebra.ts";

interface Scores {
  /** (N, H, T, d), and (N, H or fewer heads, d, S); or without H. */
  readonly q: Value;
  readonly k: Value;
  readonly scale: number;
  readonly cap: number;
  /** Booleans, and what scores become where they are false. */
  readonly seen: Value | null;
  readonly hidden: number;
  readonly bias: Value | null;
  /** Query i sees keys 0 to i + before; −1: all. */
  readonly before: number;
}
export interface Attended extends Scores {
  readonly v: Value;
}

/** Operands of the node whose weights are a softmax of scores of three axes or four. */
export function attended(node: Node, [weights, v]: readonly (Value | null)[]): Attended | null {
  if (node.op.name !== "MatMul" || !weights || !v) return null;
  const found = weighted(weights);
  if (!found) return null;
  const { q, k } = found;
  const [a, b, c] = [q, k, v].map(({ type: { shape } }) => shape);
  const rank = a.length;
  if (q.type.dtype !== v.type.dtype || k.type.dtype !== v.type.dtype) return null;
  const isSame = [b, c].every((s) => s.length === rank && s.slice(0, -2).join() === a.slice(0, -2).join());
  if ((rank !== 3 && rank !== 4) || !isSame || b[rank - 1] !== c[rank - 2]) return null;
  const [ofKeys, ofValues] = [k, v].map(unrepeated);
  const isShared = rank === 4 && ofKeys.type.shape[1] === ofValues.type.shape[1];
  return byOrder({ ...found, v: isShared ? ofValues : v, k: isShared ? ofKeys : k });
}

function weighted(weights: Value): Scores | null {
  const rank = weights.type.shape.length;
  const softmax = madeBy(uncast(weights), "Softmax");
  const axis = softmax && (softmax.attrs as { readonly axis: number }).axis;
  if (softmax && (axis === -1 || axis === rank - 1)) return added(uncast(softmax.inputs[0]!));
  const own = madeBy(weights, "ScoreWeights");
  const scores = own && multiplied(own.inputs[0]!);
  if (!own || !scores) return null;
  const { causal, scale } = own.attrs as unknown as ScoreWeightsAttrs; // the operator's
  const [t, s] = weights.type.shape.slice(-2);
  return { ...scores, scale: scores.scale * scale, before: causal ? s - t : -1 };
}

/** Scores that something is added to, or not. */
function added(x: Value): Scores | null {
  for (const [scores, bias] of madeBy(x, "Add") ? pairs(x.node) : []) {
    const found = sameShape(scores.type.shape, x.type.shape) ? chosen(scores) : null;
    if (found) return { ...found, bias: unexpanded(bias) };
  }
  return chosen(x);
}

/** Scores of which some are replaced by a number, or none. */
function chosen(x: Value): Scores | null {
  const where = madeBy(x, "Where");
  if (!where) return capped(x);
  const [seen, inner] = where.inputs as readonly Value[]; // it has all
  const hidden = numberOf(where.inputs[2]);
  if (hidden === undefined || !sameShape(inner.type.shape, x.type.shape)) return null;
  if (hidden !== Number.NEGATIVE_INFINITY) {
    const own = capped(inner);
    return own && { ...own, seen: unexpanded(seen), hidden };
  }
  // What is added to a score that is infinitely low changes nothing, nor does another mask.
  const found = added(inner);
  const place = lastShown(seen, x.type.shape[x.type.shape.length - 1]);
  if (found && found.before < 0 && place !== null) return { ...found, before: place };
  return found && !found.seen ? { ...found, seen: unexpanded(seen), hidden } : null;
}

/** cap · tanh(scores / cap), or scores. */
function capped(x: Value): Scores | null {
  const product = plusNumber(x, "Mul");
  const tanh = product && madeBy(product.x, "Tanh");
  const inner = tanh ? multiplied(tanh.inputs[0]!) : null;
  return inner && product && product.number > 0 ? { ...inner, scale: inner.scale * product.number, cap: product.number } : multiplied(x);
}

/** q · kᵀ, of which all three may be multiplied by numbers. */
function multiplied(x: Value): Scores | null {
  const outer = scaled(uncast(x));
  const product = madeBy(uncast(outer.x), "MatMul");
  if (!product) return null;
  const [q, k] = product.inputs.map((v) => scaled(v!)); // it has both
  const scale = outer.scale * q.scale * k.scale;
  return scale > 0 && Number.isFinite(scale) ? { q: q.x, k: k.x, scale, cap: 0, seen: null, hidden: 0, bias: null, before: -1 } : null;
}

/** A value, and the number that it is multiplied by: behind what only moves elements as well. */
function scaled(value: Value): { readonly x: Value; readonly scale: number } {
  const product = plusNumber(value, "Mul");
  const quotient = madeBy(value, "Div");
  const divisor = numberOf(quotient?.inputs[1]);
  const inner = product?.x ?? (divisor ? quotient!.inputs[0]! : null);
  if (inner && sameShape(inner.type.shape, value.type.shape)) {
    const rest = scaled(inner);
    return { x: rest.x, scale: rest.scale * (product ? product.number : 1 / divisor!) };
  }
  const { node } = value;
  if (node.op.name !== "Transpose" && node.op.name !== "Reshape") return { x: value, scale: 1 };
  const rest = scaled(node.inputs[0]!);
  if (rest.scale === 1) return { x: value, scale: 1 };
  const { shape } = value.type;
  const moved =
    node.op.name === "Reshape" ? reshaped(rest.x, shape, node.from) : transposed(rest.x, permOf(node.attrs, shape.length), node.from);
  return { x: moved, scale: rest.scale };
}

/** Scores and weights of 16 bits go through float32 in files, and are float32 in kernels. */
function uncast(x: Value): Value {
  const source = madeBy(x, "Cast")?.inputs[0];
  return source && isFloat(source.type.dtype) && isFloat(x.type.dtype) ? source : x;
}

/** What an Expand repeats: masks broadcast anyway. */
const unexpanded = (x: Value): Value => madeBy(x, "Expand")?.inputs[0] ?? x;

/** (N, K, …) of which (N, H, …) has each head several times in a row; the transposition of it, where that is what is multiplied. */
function unrepeated(x: Value): Value {
  const turned = madeBy(x, "Transpose");
  const perm = turned && permOf(turned.attrs, 4);
  if (turned && perm?.[0] === 0 && perm[1] === 1) {
    const inner = unrepeated(turned.inputs[0]!);
    return inner === turned.inputs[0] ? x : transposed(inner, perm, turned.from);
  }
  const expand = madeBy(madeBy(x, "Reshape")?.inputs[0], "Expand");
  const [batch, heads, ...ends] = x.type.shape;
  const wide = expand?.outputs[0].type.shape;
  if (!expand || wide?.length !== 5 || wide[0] !== batch || wide[1] * wide[2] !== heads || wide.slice(3).join() !== ends.join()) return x;
  const one = expand.inputs[0]!;
  const isOne = one.type.shape.join() === [batch, wide[1], 1, ...ends].join();
  return isOne ? reshaped(one, [batch, wide[1], ...ends], expand.from) : x;
}

/** So low that no power is left of it beside a score that is seen. */
const LOW = -1e4;

/** A mask that says no more than that queries do not see what is behind them is left out: kernels skip it. A row of it always sees something. */
function byOrder(found: Attended): Attended {
  const { seen, bias, hidden, before } = found;
  const [keys] = found.k.type.shape.slice(-1);
  const tensor = constantOf(seen ?? bias);
  if (!tensor || (seen && bias && hidden !== Number.NEGATIVE_INFINITY) || (seen && hidden > LOW) || before >= 0) return found;
  const place = lastSeen(tensor, keys, (x) => (seen ? x !== 0 : x === 0), (x) => (seen ? x === 0 : x <= LOW)); // biome-ignore format: short
  return place === null ? found : { ...found, seen: null, before: place, bias: seen ? bias : null };
}

/** The same of booleans: known ones, or places that are compared, which are as many as scores and not computed ahead. */
function lastShown(seen: Value, keys: number): number | null {
  const mask = constantOf(seen);
  if (mask) return lastSeen(mask, keys, (x) => x !== 0, (x) => x === 0); // biome-ignore format: one idea
  const compared = madeBy(seen, "GreaterOrEqual");
  const [queries, others] = (compared?.inputs ?? []).map((x) => constantOf(x));
  if (!queries || !others || keys < 2) return null;
  const isColumn = queries.shape.length > 1 && elementCount(queries.shape) === queries.shape[queries.shape.length - 2];
  const isRow = elementCount(others.shape) === keys && others.shape[others.shape.length - 1] === keys;
  const [places, ofKeys] = [toNumbers(queries), toNumbers(others)];
  const before = places[0] - ofKeys[0];
  const follow = (numbers: ArrayLike<number>): boolean => Array.from(numbers).every((x, i) => x === numbers[0] + i);
  return isColumn && isRow && follow(places) && follow(ofKeys) && places.length > 1 && before >= 0 && before < keys ? before : null;
}

/** How many keys beyond its own number each query sees, where that is one for all and not negative. */
function lastSeen(mask: TensorData, keys: number, sees: (x: number) => boolean, hides: (x: number) => boolean): number | null {
  const shape: Shape = mask.shape;
  const [queries, columns] = shape.slice(-2);
  if (shape.length < 2 || columns !== keys || shape.slice(0, -2).some((d) => d !== 1)) return null;
  const values = toNumbers(mask);
  const before = values.findIndex((x) => !sees(x)) - 1;
  const isRight = values.every((x, i) => (i % keys <= Math.floor(i / keys) + before ? sees(x) : hides(x)));
  return before >= 0 && before < keys && queries > 1 && isRight ? before : null;
}
