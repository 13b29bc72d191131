// What an expression or an index is made of, one level down.
import type { Expr } from "./expr.ts";
import type { Atom, Index } from "./index_expr.ts";

export type Part = Expr | Index | Atom;

export const isIndex = (p: Part): p is Index => !("k" in p);

export const isAtom = (p: Part): p is Atom =>
  "k" in p && (p.k === "var" || p.k === "div" || p.k === "mod" || p.k === "clamp" || p.k === "value");

export function childrenOf(p: Part): readonly Part[] {
  if (isIndex(p)) return p.terms.map((t) => t.atom);
  switch (p.k) {
    case "const":
    case "var":
      return [];
    case "load":
    case "index":
    case "within":
      return [p.at];
    case "call":
      return p.args;
    case "cast":
    case "div":
    case "mod":
    case "clamp":
      return [p.a];
    case "select":
      return [p.cond, p.a, p.b];
    case "reduce":
      return [p.body];
    case "value":
      return [p.value];
    default:
      return p satisfies never;
  }
}
