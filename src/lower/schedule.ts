// Decides how a nest runs: which variable the lanes follow, how many vectors go together, in which order the loops stand.
import type { Expr } from "../ir/expr.ts";
import { childrenOf, isAtom, isIndex, type Part } from "../ir/expr_parts.ts";
import type { IndexVar } from "../ir/index_expr.ts";
import type { SimdTarget } from "../ir/kernel.ts";
import type { ScalarFn } from "../ir/scalar.ts";
import { cutMultiple, type Nest, type Piece, split } from "./nest.ts";
import { canFollow, reducedLane } from "./reduction.ts";
import { memoryType } from "./storage.ts";
import { coefficientOf, freeVars, isAffineIn, walk } from "./walk.ts";

/** A piece with its lanes chosen; null: one element at a time, where only reductions use the lanes. */
export interface Scheduled extends Piece {
  readonly lane: IndexVar | null;
}

/** Instructions of functions that take many. */
const COST: Readonly<Partial<Record<ScalarFn, number>>> = {
  exp: 16, sigmoid: 18, tanh: 22, erf: 32, log: 24, sin: 22, cos: 22, tan: 26, asin: 16, acos: 18, atan: 18, sinh: 50, cosh: 20,
  asinh: 60, acosh: 60, atanh: 40, pow: 70, div: 6, sqrt: 6, reciprocal: 6, fmod: 16, mod: 20,
}; // biome-ignore format: a table

/** A horizontal reduction, or another detour of one element. */
const ACROSS_COST = 10;

/** Instructions for one element of the output, when lanes follow `lane`. */
function costOf(e: Expr, lane: IndexVar | null, lanes: number): number {
  const seen = new Set<Part>();
  const width = lane ? Math.min(lanes, lane.extent) : 1;
  const visit = (p: Part, times: number): number => {
    if (seen.has(p) || (lane && !freeVars(p).has(lane.id))) return 0;
    seen.add(p);
    if (isIndex(p) || isAtom(p)) return childrenOf(p).reduce((sum, c) => sum + visit(c, times), 0);
    if (p.k === "reduce") {
      const count = p.vars.reduce((n, v) => n * v.extent, times);
      const along = lane ? undefined : reducedLane(p);
      return along ? costOf(p.body, along, lanes) * count + ACROSS_COST * times : visit(p.body, count);
    }
    const below = childrenOf(p).reduce((sum, c) => sum + visit(c, times), 0);
    if (p.k === "load") return below + times * loadCost(p, lane, width);
    if (p.k === "call") return below + (times * (COST[p.fn] ?? 1)) / width;
    return below + times / width;
  };
  return visit(e, 1);
}

function loadCost(e: Extract<Expr, { k: "load" }>, lane: IndexVar | null, width: number): number {
  if (!lane) return 1;
  if (!isAffineIn(e.at, lane.id)) return 2;
  const c = coefficientOf(e.at, lane.id);
  if (c === 0 || c === 1) return 1 / width;
  const type = memoryType(e.dtype);
  return type === "f32" || type === "i32" || type === "i64" ? 1 : 3;
}

function chooseLane(piece: Piece, lanes: number): IndexVar | null {
  const last = piece.inner[piece.inner.length - 1];
  if (!last || !canFollow(piece.expr, last)) return null;
  return costOf(piece.expr, last, lanes) <= costOf(piece.expr, null, lanes) ? last : null;
}

/** Loads that jump from lane to lane while they run along another axis: what a transposition does. */
function transposedAxis(piece: Piece, outer: readonly IndexVar[], lane: IndexVar): IndexVar | undefined {
  const axes = [...outer, ...piece.inner].filter((v) => v !== lane);
  let found: IndexVar | undefined;
  walk(piece.expr, (p) => {
    if (isIndex(p) || p.k !== "load" || !isAffineIn(p.at, lane.id) || Math.abs(coefficientOf(p.at, lane.id)) <= 1) return true;
    found ??= axes.find((v) => coefficientOf(p.at, v.id) === 1 && isAffineIn(p.at, v.id) && v.extent >= 4);
    return true;
  });
  return found;
}

/** Columns of a transposition that are read together: a cache line of float32. */
const TRANSPOSED_BLOCK = 16;

export interface Schedule {
  readonly outer: readonly IndexVar[];
  readonly pieces: readonly Scheduled[];
}

/** A nest as one or more nests with lanes and an order of loops. */
export function scheduleNest(nest: Nest, lanes: number, threads: number): Schedule[] {
  const pieces = nest.pieces.map((p): Scheduled => ({ ...p, lane: chooseLane(p, lanes) }));
  const [only, ...others] = pieces;
  const isRepeating = pieces.some((p) => orderForCostly(nest.outer, p) !== undefined);
  if (others.length > 0)
    return isRepeating
      ? nest.pieces.flatMap((p) => scheduleNest({ outer: nest.outer, pieces: [p] }, lanes, threads))
      : [{ outer: nest.outer, pieces }];
  if (isRepeating) return inOrder(nest, only, lanes, threads);
  const axis = only.lane ? transposedAxis(only, nest.outer, only.lane) : undefined;
  if (!axis) return [{ outer: nest.outer, pieces }];
  return cutMultiple(nest, axis, TRANSPOSED_BLOCK).map((part) => {
    const [piece] = part.pieces;
    const lane = piece.inner[piece.inner.length - 1];
    const across = transposedAxis(piece, part.outer, lane);
    return across ? blocked(part, across, lane) : { outer: part.outer, pieces: [{ ...piece, lane }] };
  });
}

/** Functions that cost more than going through memory in another order. */
const COSTLY = 12;

/** Free variables of the reductions in a piece, and of the costly functions that differ from lane to lane. */
function costlyParts({ expr, lane }: Scheduled): ReadonlySet<number>[] {
  const found: ReadonlySet<number>[] = [];
  walk(expr, (p) => {
    if (isIndex(p)) return true;
    const isCostly = p.k === "call" && (COST[p.fn] ?? 1) >= COSTLY && lane !== null && freeVars(p).has(lane.id);
    if (p.k === "reduce" || isCostly) found.push(freeVars(p));
    return p.k !== "reduce";
  });
  return found;
}

/** Another order of the loops, where in the present one something costly is computed again and again inside a loop that it does not depend on. */
function orderForCostly(outer: readonly IndexVar[], piece: Scheduled): IndexVar[] | undefined {
  const vars = [...outer, ...piece.inner];
  const parts = costlyParts(piece);
  const isRepeated = (part: ReadonlySet<number>): boolean => {
    const first = vars.findIndex((v) => v.extent >= 4 && !part.has(v.id));
    return first >= 0 && vars.slice(first).some((v) => part.has(v.id));
  };
  if (!parts.some(isRepeated)) return undefined;
  const users = (v: IndexVar): number => parts.filter((part) => part.has(v.id)).length;
  const sorted = [...vars].sort((a, b) => users(b) - users(a));
  return sorted.some((v, i) => v !== vars[i]) ? sorted : undefined;
}

function inOrder(nest: Nest, piece: Scheduled, lanes: number, threads: number): Schedule[] {
  const order = orderForCostly(nest.outer, piece) ?? [...nest.outer, ...piece.inner];
  const { lane } = piece;
  if (!lane) return [{ outer: order, pieces: [{ ...piece, inner: [] }] }];
  const at = order.indexOf(lane);
  const [outer, inner] = [order.slice(0, at), order.slice(at)];
  const shares = outer.reduce((n, v) => n * v.extent, Math.ceil(lane.extent / lanes));
  const [, first] = inner;
  if (threads === 1 || shares >= 2 * threads || !first || first.extent < 2 * threads) return [{ outer, pieces: [{ ...piece, inner }] }];
  // Too little to share out: each thread computes the costly part for itself, and takes a stretch of the loop after it.
  return cutMultiple(nest, first, threads).map((part) => {
    const own: Scheduled = { ...part.pieces[0], lane };
    const again = orderForCostly(part.outer, own) ?? [...part.outer, ...own.inner];
    const stretch = again[again.indexOf(lane) + 1];
    if (!stretch || stretch.extent % threads !== 0)
      return { outer: again.slice(0, again.indexOf(lane)), pieces: [{ ...own, inner: again.slice(again.indexOf(lane)) }] };
    const { nest: divided, hi, lo } = split(part, stretch, stretch.extent / threads);
    const rest = again.filter((v) => v !== stretch);
    const place = rest.indexOf(lane);
    return { outer: [hi, ...rest.slice(0, place)], pieces: [{ ...divided.pieces[0], lane, inner: [lane, lo, ...rest.slice(place + 1)] }] };
  });
}

/** Whether a reduction depends on loops outside of the lanes only: it must not move inside of them. */
export const reducesOutside = (piece: Scheduled): boolean =>
  costlyParts(piece).some((part) => part.size > 0 && (piece.lane === null || !part.has(piece.lane.id)));

/** Loops: others, blocks of `across`, the lanes, inside a block: each cache line that the lanes touch is read to its end. */
function blocked(nest: Nest, across: IndexVar, lane: IndexVar): Schedule {
  const isLong = across.extent > TRANSPOSED_BLOCK;
  const { nest: divided, lo } = isLong ? split(nest, across, TRANSPOSED_BLOCK) : { nest, lo: across };
  const [piece] = divided.pieces;
  const outer = [...divided.outer, ...piece.inner].filter((v) => v !== lane && v !== lo);
  return { outer, pieces: [{ ...piece, inner: [lane, lo], lane }] };
}

/** Whether lanes differ in a reduction of the expression. */
export function reducesInLanes(e: Expr, lane: IndexVar): boolean {
  let found = false;
  walk(e, (p) => {
    if (!isIndex(p) && p.k === "reduce" && freeVars(p).has(lane.id)) found = true;
    return !found;
  });
  return found;
}

/** Vectors that are computed together. Long formulas need their registers for constants, and overlap by themselves. */
export function unrollOf(piece: Scheduled, { lanes, registers }: Pick<SimdTarget, "lanes" | "registers">): number {
  if (!piece.lane || transposedAxis(piece, [], piece.lane)) return 1;
  if (reducesInLanes(piece.expr, piece.lane)) return 4;
  const instructions = costOf(piece.expr, piece.lane, lanes) * Math.min(lanes, piece.lane.extent);
  if (registers < 32) return instructions > 14 ? 1 : 4;
  return instructions > 40 ? 2 : 4;
}

/** Vectors together such that `threads` equal shares of all are as small as can be; of equals the largest. */
export function fairUnroll(vectors: number, most: number, threads: number): number {
  let best = 1;
  let least = Number.POSITIVE_INFINITY;
  for (let u = 1; u <= Math.min(most, vectors); u++) {
    const share = Math.ceil(Math.ceil(vectors / u) / threads) * u;
    if (share <= least) [best, least] = [u, share];
  }
  return best;
}
