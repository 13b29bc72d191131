// Finds pointers that need no register: another one plus an integer that nothing else reads, so that addresses name both.
import type { Affine, IntVar, Kernel, Pointer, PointerAddress, SimdTarget, Stmt } from "../../ir/kernel.ts";

/** A pointer's address: base + index · factor. */
export interface Indexed {
  readonly base: Pointer;
  readonly index: IntVar;
  readonly factor: number;
}

/** By the pointer's id. Where each operand with an index costs an operation, one that computes the address is cheaper for several. */
export function planIndexed(kernel: Kernel<PointerAddress>, { splitsIndexed }: SimdTarget): ReadonlyMap<number, Indexed> {
  const finder = new Finder();
  finder.block(kernel.body);
  return finder.found(splitsIndexed ? 1 : Number.POSITIVE_INFINITY);
}

class Finder {
  private readonly candidates = new Map<number, Indexed>();
  /** Pointers that move, or that something else than loads and stores of whole vectors reads. */
  private readonly refused = new Set<number>();
  private readonly set = new Set<number>();
  /** Vectors loaded from each pointer. */
  private readonly loads = new Map<number, number>();
  /** How often each integer is read. */
  private readonly reads = new Map<number, number>();
  /** Integers that are picked from a word: no loop counts them. */
  private readonly picked = new Set<number>();

  /** Those from which at most so many vectors are loaded. */
  found(most: number): ReadonlyMap<number, Indexed> {
    for (const [id, { base, index }] of this.candidates) {
      const isLone = this.reads.get(index.id) === 1 && this.picked.has(index.id) && (this.loads.get(id) ?? 0) <= most;
      if (this.refused.has(id) || this.candidates.has(base.id) || !isLone) this.candidates.delete(id);
    }
    return this.candidates;
  }

  private read({ terms }: Affine): void {
    for (const { v } of terms) this.reads.set(v.id, (this.reads.get(v.id) ?? 0) + 1);
  }

  block(stmts: readonly Stmt<PointerAddress>[]): void {
    for (let i = 0; i < stmts.length; i++) if (stmts[i].k !== "vec") this.statement(stmts[i]);
  }

  private statement(s: Stmt<PointerAddress>): void {
    switch (s.k) {
      case "pointer":
        this.pointer(s);
        break;
      case "load":
        if (s.mode !== "vec") this.refused.add(s.from.pointer.id);
        this.loads.set(s.from.pointer.id, (this.loads.get(s.from.pointer.id) ?? 0) + 1);
        break;
      case "int":
        this.read(s.a);
        this.read(s.b);
        if (s.op === "bits") this.picked.add(s.v.id);
        break;
      case "loadint":
      case "gather":
        this.refused.add(s.from.pointer.id);
        break;
      case "expand":
        this.refused.add(s.from.pointer.id).add(s.bits.pointer.id);
        break;
      case "prefetch":
        this.refused.add(s.at.pointer.id);
        break;
      case "iota":
        this.read(s.a);
        break;
      case "for":
        this.read(s.from);
        this.read(s.to);
        this.block(s.body);
        break;
      case "parallel":
        this.block(s.body);
        break;
      case "if":
        this.read(s.a);
        this.read(s.b);
        this.block(s.body);
        this.block(s.otherwise);
        break;
      case "vec":
      case "store":
      case "const":
        break;
      default:
        s satisfies never;
    }
  }

  private pointer({ pointer, from, add }: Extract<Stmt<PointerAddress>, { k: "pointer" }>): void {
    this.read(add);
    if (this.set.has(pointer.id)) this.refused.add(pointer.id);
    this.set.add(pointer.id);
    if ("buffer" in from) return;
    this.refused.add(from.pointer.id);
    const [term] = add.terms;
    if (add.terms.length === 1 && add.base === 0 && (term.c === 1 || term.c === 2 || term.c === 4 || term.c === 8))
      this.candidates.set(pointer.id, { base: from.pointer, index: term.v, factor: term.c });
  }
}
