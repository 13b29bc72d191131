// Affine addresses to pointers with constant displacements: set before the loop that moves them, bumped at its end, shared by all addresses that move alike.
import { invariant } from "../ir/error.ts";
import type { Affine, BufferAddress, Kernel, Pointer, PointerAddress, Stmt } from "../ir/kernel.ts";
import { affine, times } from "../ir/kernel.ts";

type Terms = Affine["terms"];
type PointerStmt = Stmt<PointerAddress>;
type Loop = Extract<Stmt, { k: "for" | "parallel" }>;

/** A pointer that is set in a scope, by what it is: the sum buffer + Σ terms. */
interface Known {
  readonly buffer: number;
  readonly terms: Terms;
  readonly pointer: Pointer;
  /** Another one whose sum has the same hash. */
  readonly next: Known | undefined;
}

/** A statement list under construction: the whole kernel, a loop's body, or one branch of a condition. */
interface Scope {
  readonly parent: Scope | undefined;
  readonly depth: number;
  /** The loop whose body this is. */
  readonly loop: Loop | undefined;
  /** Pointers set here, by the hash of their sum. */
  readonly pointers: Map<number, Known>;
  readonly out: PointerStmt[];
  /** Appended when the body ends. */
  readonly bumps: PointerStmt[];
  isOpen: boolean;
}

/** The same kernel with every address as a pointer and a displacement. */
export function lowerAddresses(kernel: Kernel): Kernel<PointerAddress> {
  return { ...kernel, body: new Lowering().block(kernel.body, undefined, undefined) };
}

class Lowering {
  private nextPointer = 0;
  /** The scope that each variable is set in: the body of its loop, or where its statement is. */
  private readonly scopes = new Map<number, Scope>();

  block(stmts: readonly Stmt[], parent: Scope | undefined, loop: Loop | undefined): readonly PointerStmt[] {
    const depth = parent ? parent.depth + 1 : 0;
    const scope: Scope = { parent, depth, loop, pointers: new Map(), out: [], bumps: [], isOpen: true };
    if (loop) this.scopes.set(loop.v.id, scope);
    for (let i = 0; i < stmts.length; i++) {
      const s = stmts[i];
      if (s.k === "vec" || s.k === "const") scope.out.push(s);
      else this.statement(s, scope);
    }
    for (let i = 0; i < scope.bumps.length; i++) scope.out.push(scope.bumps[i]);
    scope.isOpen = false;
    return scope.out;
  }

  /** Statements are written out field by field: spreading each of thousands takes several times as long. */
  private statement(s: Exclude<Stmt, { k: "vec" | "const" }>, scope: Scope): void {
    const { out } = scope;
    switch (s.k) {
      case "for":
      case "parallel": {
        const body = this.block(s.body, scope, s);
        out.push({ ...s, body });
        return;
      }
      case "if": {
        const body = this.block(s.body, scope, undefined);
        const otherwise = this.block(s.otherwise, scope, undefined);
        out.push({ ...s, body, otherwise });
        return;
      }
      case "load": {
        const from = this.address(s.from, scope);
        out.push({ k: "load", dst: s.dst, from, type: s.type, mode: s.mode, lanes: s.lanes, stride: s.stride });
        return;
      }
      case "gather": {
        const from = this.address(s.from, scope);
        out.push({ k: "gather", dst: s.dst, from, index: s.index, count: s.count, lanes: s.lanes });
        return;
      }
      case "expand": {
        const from = this.address(s.from, scope);
        const bits = this.address(s.bits, scope);
        out.push({ k: "expand", dst: s.dst, from, bits });
        return;
      }
      case "loadint": {
        const from = this.address(s.from, scope);
        out.push({ k: "loadint", v: s.v, from, type: s.type, wrap: s.wrap });
        this.scopes.set(s.v.id, scope);
        return;
      }
      case "store": {
        const to = this.address(s.to, scope);
        out.push({ k: "store", src: s.src, to, type: s.type, lanes: s.lanes });
        return;
      }
      case "prefetch": {
        const at = this.address(s.at, scope);
        out.push({ k: "prefetch", at, level: s.level });
        return;
      }
      case "int":
        out.push(s);
        this.scopes.set(s.v.id, scope);
        return;
      case "iota":
      case "pointer":
        out.push(s);
        return;
      default:
        s satisfies never;
    }
  }

  private address({ buffer, at }: BufferAddress, scope: Scope): PointerAddress {
    return { pointer: this.pointer(buffer, at.terms, scope), disp: at.base };
  }

  /** The pointer to buffer + Σ terms that is valid from here to the end of the scope that sets the last of their variables. */
  private pointer(buffer: number, terms: Terms, from: Scope): Pointer {
    let scope: Scope | undefined;
    let hash = buffer;
    for (let i = 0; i < terms.length; i++) {
      const { v, c } = terms[i];
      hash = (hash + (v.id * 8191 + 127) * c) | 0; // a sum, so that the order of terms does not matter
      const own = this.scopes.get(v.id);
      invariant(own?.isOpen, "an address reads an integer outside of the block that sets it");
      if (!scope || own.depth > scope.depth) scope = own;
    }
    if (!scope) scope = outermost(from);
    const first = scope.pointers.get(hash);
    for (let known = first; known; known = known.next) if (known.buffer === buffer && isSameSum(known.terms, terms)) return known.pointer;
    const pointer = this.set(buffer, terms, scope);
    scope.pointers.set(hash, { buffer, terms, pointer, next: first });
    return pointer;
  }

  private set(buffer: number, terms: Terms, scope: Scope): Pointer {
    const { loop, out, parent } = scope;
    const pointer: Pointer = { id: this.nextPointer++ };
    if (terms.length === 0) {
      out.push({ k: "pointer", pointer, from: { buffer }, add: affine(0) });
      return pointer;
    }
    const inner = terms.filter((t) => this.scopes.get(t.v.id) === scope && t.v.id !== loop?.v.id);
    if (inner.length > 0 || !loop || !parent) {
      // The last that is set is added last: neighbours share the sum of the others.
      const last = inner.reduce((a, b) => (b.v.id > a.v.id ? b : a));
      const rest = terms.filter((t) => t !== last);
      out.push({ k: "pointer", pointer, from: { pointer: this.pointer(buffer, rest, scope) }, add: { base: 0, terms: [last] } });
      return pointer;
    }
    const own = terms.find((t) => t.v.id === loop.v.id) as Terms[number]; // the scope was chosen for it
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

function outermost(scope: Scope): Scope {
  let s = scope;
  while (s.parent) s = s.parent;
  return s;
}

/** Whether both have the same terms; mostly they are in the same order, too. */
function isSameSum(a: Terms, b: Terms): boolean {
  if (a === b) return true;
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) {
    const { v, c } = a[i];
    if (b[i].v.id === v.id && b[i].c === c) continue;
    if (!b.some((t) => t.v.id === v.id && t.c === c)) return false;
  }
  return true;
}
