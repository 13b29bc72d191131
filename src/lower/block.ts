// A block of code under construction: which variables are bound, what the lanes are, and which values are in registers already.
import type { Expr } from "../ir/expr.ts";
import type { Atom, IndexVar } from "../ir/index_expr.ts";
import type { Int, Vec } from "../ir/kernel.ts";

export interface Block {
  /** Bound variables by id; for the lane variable, its value in lane 0. */
  readonly ints: ReadonlyMap<number, Int>;
  /** The variable whose consecutive values the lanes hold; null: all lanes hold the same. */
  readonly lane: IndexVar | null;
  /** Lanes in use. */
  readonly lanes: number;
  readonly given: ReadonlyMap<number, Vec>;
  /** Where values that are the same in all lanes are computed; null: here. */
  readonly shared: Block | null;
  readonly parent: Block | null;
  readonly values: Map<Expr | Atom, Vec>;
  readonly atoms: Map<Atom, Int | null>;
}

export function rootBlock(lanes: number, ints: ReadonlyMap<number, Int> = new Map(), given: ReadonlyMap<number, Vec> = new Map()): Block {
  return { ints, lane: null, lanes, given, shared: null, parent: null, values: new Map(), atoms: new Map() };
}

/** A block inside of `parent` (a loop's body, or the lanes), which knows all that parent knows. */
export function innerBlock(
  parent: Block,
  bind: readonly (readonly [IndexVar, Int])[],
  more: Partial<Pick<Block, "lane" | "lanes" | "shared">> = {},
): Block {
  const ints = new Map(parent.ints);
  for (const [v, value] of bind) ints.set(v.id, value);
  return { ...parent, ...more, ints, parent, values: new Map(), atoms: new Map() };
}

export function knownValue(block: Block, e: Expr | Atom): Vec | undefined {
  for (let b: Block | null = block; b; b = b.parent) {
    const v = b.values.get(e);
    if (v) return v;
  }
  return block.shared ? knownValue(block.shared, e) : undefined;
}

/** null: known not to be an integer variable. */
export function knownInt(block: Block, atom: Atom): Int | null | undefined {
  for (let b: Block | null = block; b; b = b.parent) {
    const v = b.atoms.get(atom);
    if (v !== undefined) return v;
  }
  return block.shared ? knownInt(block.shared, atom) : undefined;
}
