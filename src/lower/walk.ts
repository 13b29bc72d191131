// Walks over expressions and indices: free variables, and every index inside.
import { childrenOf, isIndex, type Part } from "../ir/expr_parts.ts";
import type { Index } from "../ir/index_expr.ts";

const freeCache = new WeakMap<Part, ReadonlySet<number>>();

/** Variables that must be bound around `p`. */
export function freeVars(p: Part): ReadonlySet<number> {
  const known = freeCache.get(p);
  if (known) return known;
  const free = new Set<number>();
  if ("k" in p && p.k === "var") free.add(p.v.id);
  else for (const child of childrenOf(p)) for (const id of freeVars(child)) free.add(id);
  if ("k" in p && p.k === "reduce") for (const v of p.vars) free.delete(v.id);
  freeCache.set(p, free);
  return free;
}

export function dependsOn(p: Part, ids: ReadonlySet<number>): boolean {
  for (const id of freeVars(p)) if (ids.has(id)) return true;
  return false;
}

/** Calls `visit` once for each part of `root`, parents first; false from `visit` leaves the children out. */
export function walk(root: Part, visit: (p: Part) => boolean | undefined, seen = new Set<Part>()): void {
  if (seen.has(root)) return;
  seen.add(root);
  if (visit(root) === false) return;
  for (const child of childrenOf(root)) walk(child, visit, seen);
}

/** All indices inside, also those inside of atoms. */
export function indicesOf(root: Part): Index[] {
  const found: Index[] = [];
  walk(root, (p) => {
    if (isIndex(p)) found.push(p);
    return true;
  });
  return found;
}

/** Coefficient of variable `id` itself, not of atoms that contain it. */
export function coefficientOf(at: Index, id: number): number {
  for (const { atom, c } of at.terms) if (atom.k === "var" && atom.v.id === id) return c;
  return 0;
}

/** Whether `id` appears in `at` only by itself, times a constant. */
export const isAffineIn = (at: Index, id: number): boolean => at.terms.every(({ atom }) => atom.k === "var" || !freeVars(atom).has(id));
