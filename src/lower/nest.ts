// The output of a group as loop nests: axes cut where conditions change, split where divisions fall away, and joined where memory runs on.
import type { Expr } from "../ir/expr.ts";
import type { Part } from "../ir/expr_parts.ts";
import { addIndex, constIndex, type Index, type IndexVar, mulIndex, newVar, varIndex } from "../ir/index_expr.ts";
import { joinable, Rewriter } from "./rewrite.ts";
import { coefficientOf, walk } from "./walk.ts";

/** Part of the output inside a nest's outer loops. */
export interface Piece {
  /** Own axes, outer first. The last one runs along the output's memory (coefficient 1), unless there is none. */
  readonly inner: readonly IndexVar[];
  readonly expr: Expr;
  /** Element of the output. */
  readonly out: Index;
  /** What further outputs have there. */
  readonly also: readonly Expr[];
}

export interface Nest {
  readonly outer: readonly IndexVar[];
  readonly pieces: readonly Piece[];
}

/** Nests that one kernel may have: each is code of its own. */
const MAX_NESTS = 16;
const MAX_CUTS = 8;
const MAX_SPLITS = 8;

/** Nests that together compute every element of the output once. */
export function buildNests(expr: Expr, out: Index, axes: readonly IndexVar[], lanes: number, also: readonly Expr[] = []): Nest[] {
  const long = axes.filter((v) => v.extent > 1);
  let nests: Nest[] = [{ outer: long.slice(0, -1), pieces: [rewritten({ inner: long.slice(-1), expr, out, also }, new Map())] }];
  for (const axis of long.slice(0, -1)) nests = nests.flatMap((nest) => cutOuter(nest, axis, Math.floor(MAX_NESTS / nests.length)));
  return nests
    .map(cutInner)
    .flatMap(separated)
    .map((nest) => joinAxes(splitAxes(nest, lanes)));
}

/** With other variables in its expressions. What these have in common stays one object. */
function rewritten(piece: Piece, map: ReadonlyMap<number, Index>): Piece {
  const rewriter = new Rewriter(map);
  const { expr, out, also } = piece;
  return { ...piece, expr: rewriter.expr(expr), out: rewriter.index(out), also: also.map((e) => rewriter.expr(e)) };
}

/** What a variable becomes: an index over new loops that stand in its place. */
interface Replacement {
  readonly to: Index;
  readonly loops: readonly IndexVar[];
}

function replaced(nest: Nest, by: ReadonlyMap<IndexVar, Replacement>): Nest {
  const map = new Map([...by].map(([v, { to }]) => [v.id, to]));
  const swap = (vars: readonly IndexVar[]): IndexVar[] => vars.flatMap((v) => by.get(v)?.loops ?? [v]);
  return {
    outer: swap(nest.outer),
    pieces: nest.pieces.map((p) => ({ ...rewritten(p, map), inner: swap(p.inner) })),
  };
}

/** Values of v at which a condition or clamp on v alone changes. */
function cutsOf(root: Part, v: IndexVar): number[] {
  const cuts = new Set<number>();
  const note = (at: Index, bounds: readonly number[]): void => {
    const c = coefficientOf(at, v.id);
    if (at.terms.length !== 1 || c === 0) return;
    for (const bound of bounds) {
      // The first v on the far side of the bound.
      const x = c > 0 ? Math.ceil((bound - at.base) / c) : Math.floor((bound - at.base) / c) + 1;
      if (x > 0 && x < v.extent) cuts.add(x);
    }
  };
  walk(root, (p) => {
    if (!("k" in p)) return true;
    if (p.k === "within") note(p.at, [p.lo, p.hi]);
    if (p.k === "clamp") note(p.a, [p.lo, p.hi]);
    return true;
  });
  return [...cuts].sort((a, b) => a - b);
}

/** The nest once for each stretch of `v` between cuts. */
function cutAt(nest: Nest, v: IndexVar, cuts: readonly number[]): Nest[] {
  const ends = [...cuts, v.extent];
  return ends.map((end, i) => {
    const start = i === 0 ? 0 : ends[i - 1];
    const part = newVar(end - start);
    return replaced(nest, new Map([[v, { to: addIndex(varIndex(part), start), loops: part.extent > 1 ? [part] : [] }]]));
  });
}

function cutOuter(nest: Nest, axis: IndexVar, most: number): Nest[] {
  const cuts = cutsOf(nest.pieces[0].expr, axis);
  return cuts.length === 0 || cuts.length >= Math.min(most, MAX_CUTS) ? [nest] : cutAt(nest, axis, cuts);
}

/** Cuts the innermost axis: the pieces stay in the same outer loops, so that the output is written in one go. */
function cutInner(nest: Nest): Nest {
  const [piece] = nest.pieces;
  const [axis] = piece.inner;
  const cuts = axis ? cutsOf(piece.expr, axis) : [];
  if (cuts.length === 0 || cuts.length > MAX_CUTS) return nest;
  return { outer: nest.outer, pieces: cutAt(nest, axis, cuts).map((n) => n.pieces[0]) };
}

/** Without outer loops each piece is a nest. */
const separated = (nest: Nest): Nest[] => (nest.outer.length > 0 ? [nest] : nest.pieces.map((p) => ({ outer: [], pieces: [p] })));

function divisions(nest: Nest): number {
  let count = 0;
  for (const { expr } of nest.pieces) {
    walk(expr, (p) => {
      if ("k" in p && (p.k === "div" || p.k === "mod")) count++;
      return true;
    });
  }
  return count;
}

/** Splits axes into (hi, lo) where that makes divisions disappear: doubling an image needs none. Innermost axes stay at least `lanes` long. */
function splitAxes(nest: Nest, lanes: number): Nest {
  let best = nest;
  let count = divisions(nest);
  for (let tries = 0; count > 0 && tries < MAX_SPLITS; tries++) {
    const better = candidates(best, lanes)
      .map(([v, by]) => split(best, v, by).nest)
      .find((n) => divisions(n) < count);
    if (!better) break;
    best = better;
    count = divisions(best);
  }
  return best;
}

function candidates(nest: Nest, lanes: number): (readonly [IndexVar, number])[] {
  const found = new Map<string, readonly [IndexVar, number]>();
  const inner = nest.pieces.map((p) => p.inner[p.inner.length - 1]);
  const vars = [...nest.outer, ...nest.pieces.flatMap((p) => p.inner)];
  for (const { expr } of nest.pieces) {
    walk(expr, (p) => {
      if (!("k" in p) || (p.k !== "div" && p.k !== "mod")) return true;
      for (const v of vars) {
        const c = Math.abs(coefficientOf(p.a, v.id));
        const by = p.by / c;
        if (c === 0 || !Number.isInteger(by) || by <= 1 || v.extent % by !== 0 || by === v.extent) continue;
        if (inner.includes(v) && by < lanes) continue;
        found.set(`${v.id} ${by}`, [v, by]);
      }
      return true;
    });
  }
  return [...found.values()].slice(0, MAX_SPLITS);
}

/** v = by·hi + lo. */
export function split(nest: Nest, v: IndexVar, by: number): { readonly nest: Nest; readonly hi: IndexVar; readonly lo: IndexVar } {
  const [hi, lo] = [newVar(v.extent / by), newVar(by)];
  const to = addIndex(mulIndex(varIndex(hi), by), varIndex(lo));
  return { nest: replaced(nest, new Map([[v, { to, loops: [hi, lo] }]])), hi, lo };
}

/** Cuts v at a multiple of `by`. */
export function cutMultiple(nest: Nest, v: IndexVar, by: number): Nest[] {
  const whole = Math.floor(v.extent / by) * by;
  return whole === 0 || whole === v.extent ? [nest] : cutAt(nest, v, [whole]);
}

/** Makes one axis of two that every index sees as one. */
function joinAxes(nest: Nest): Nest {
  const parts = nest.pieces.flatMap((p): Part[] => [p.expr, p.out, ...p.also]);
  const [only] = nest.pieces;
  const vars = nest.pieces.length === 1 ? [...nest.outer, ...only.inner] : nest.outer;
  const pair = joinable(vars, parts);
  if (!pair) return ordered(nest);
  const [outer, inner] = pair;
  const joined = newVar(outer.extent * inner.extent);
  // Both at once: with one of them at 0 alone, divisions would be simplified that are not yet whole.
  return joinAxes(
    replaced(
      nest,
      new Map([
        [outer, { to: constIndex(0), loops: [] }],
        [inner, { to: varIndex(joined), loops: [joined] }],
      ]),
    ),
  );
}

/** Outer axes by their stride in the output, the largest first. */
function ordered(nest: Nest): Nest {
  const stride = (v: IndexVar): number => coefficientOf(nest.pieces[0].out, v.id);
  return { ...nest, outer: [...nest.outer].sort((a, b) => stride(b) - stride(a)) };
}
