// Affine addresses to pointers with constant displacements: set before the loop that moves them, bumped at its end, shared by all addresses that move alike.
import type { Affine, BufferAddress, Kernel, Pointer, PointerAddress, Stmt } from "../ir/kernel.ts";
import { affine, times } from "../ir/kernel.ts";

type Term = Affine["terms"][number];
type PointerStmt = Stmt<PointerAddress>;
type Loop = Extract<Stmt, { k: "for" | "parallel" }>;

/** A statement list under construction: the whole kernel, a loop's body, or one branch of a condition. */
interface Scope {
  readonly parent: Scope | undefined;
  /** The loop whose body this is. */
  readonly loop: Loop | undefined;
  /** Variables set here: the loop's and those of integer statements. */
  readonly defined: Set<number>;
  /** Pointers set here, by buffer and terms. */
  readonly pointers: Map<string, Pointer>;
  readonly out: PointerStmt[];
  /** Appended when the body ends. */
  readonly bumps: PointerStmt[];
}

/** The same kernel with every address as a pointer and a displacement. */
export function lowerAddresses(kernel: Kernel): Kernel<PointerAddress> {
  return { ...kernel, body: new Lowering().block(kernel.body, undefined, undefined) };
}

class Lowering {
  private nextPointer = 0;

  block(stmts: readonly Stmt[], parent: Scope | undefined, loop: Loop | undefined): readonly PointerStmt[] {
    const scope: Scope = {
      parent,
      loop,
      defined: new Set(loop ? [loop.v.id] : []),
      pointers: new Map(),
      out: [],
      bumps: [],
    };
    for (const stmt of stmts) this.statement(stmt, scope);
    return [...scope.out, ...scope.bumps];
  }

  private statement(s: Stmt, scope: Scope): void {
    switch (s.k) {
      case "for":
      case "parallel": {
        const body = this.block(s.body, scope, s);
        scope.out.push({ ...s, body });
        return;
      }
      case "if": {
        const body = this.block(s.body, scope, undefined);
        const otherwise = this.block(s.otherwise, scope, undefined);
        scope.out.push({ ...s, body, otherwise });
        return;
      }
      case "load":
      case "gather": {
        const from = this.address(s.from, scope);
        scope.out.push({ ...s, from });
        return;
      }
      case "loadint": {
        const from = this.address(s.from, scope);
        scope.out.push({ ...s, from });
        scope.defined.add(s.v.id);
        return;
      }
      case "store": {
        const to = this.address(s.to, scope);
        scope.out.push({ ...s, to });
        return;
      }
      case "prefetch": {
        const at = this.address(s.at, scope);
        scope.out.push({ ...s, at });
        return;
      }
      case "int":
        scope.out.push(s);
        scope.defined.add(s.v.id);
        return;
      default:
        scope.out.push(s);
    }
  }

  private address({ buffer, at }: BufferAddress, scope: Scope): PointerAddress {
    return { pointer: this.pointer(buffer, at.terms, scope), disp: at.base };
  }

  /** The pointer to buffer + Σ terms that is valid from here to the end of the scope that defines the last of their variables. */
  private pointer(buffer: number, terms: readonly Term[], from: Scope): Pointer {
    let scope = from;
    while (scope.parent && !terms.some((t) => scope.defined.has(t.v.id))) scope = scope.parent;
    const key = `${buffer}|${terms
      .map((t) => `${t.v.id}*${t.c}`)
      .sort()
      .join()}`;
    const known = scope.pointers.get(key);
    if (known) return known;
    const pointer = this.set(buffer, terms, scope);
    scope.pointers.set(key, pointer);
    return pointer;
  }

  private set(buffer: number, terms: readonly Term[], scope: Scope): Pointer {
    const { loop, out, parent } = scope;
    const pointer: Pointer = { id: this.nextPointer++ };
    if (terms.length === 0) {
      out.push({ k: "pointer", pointer, from: { buffer }, add: affine(0) });
      return pointer;
    }
    const isInner = (t: Term): boolean => scope.defined.has(t.v.id) && t.v.id !== loop?.v.id;
    const inner = terms.filter(isInner);
    if (inner.length > 0 || !loop || !parent) {
      const rest = terms.filter((t) => !inner.includes(t));
      out.push({ k: "pointer", pointer, from: { pointer: this.pointer(buffer, rest, scope) }, add: { base: 0, terms: inner } });
      return pointer;
    }
    const own = terms.find((t) => t.v.id === loop.v.id) as Term; // the search stopped at this scope for it
    const base = this.pointer(
      buffer,
      terms.filter((t) => t !== own),
      parent,
    );
    if (loop.k === "parallel") {
      out.push({ k: "pointer", pointer, from: { pointer: base }, add: { base: 0, terms: [own] } });
      return pointer;
    }
    parent.out.push({ k: "pointer", pointer, from: { pointer: base }, add: times(loop.from, own.c) });
    scope.bumps.push({ k: "pointer", pointer, from: { pointer }, add: affine(own.c * loop.step) });
    return pointer;
  }
}
