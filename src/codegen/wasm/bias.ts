// Finds for each pointer the lowest displacement it is used with, so that all displacements become the unsigned offsets that WebAssembly has.
import type { PointerAddress, Stmt } from "../../ir/kernel.ts";

/** Pointers whose local variable holds the pointer plus a bias; displacements count from there. */
export class Biases {
  private readonly lowest = new Map<number, number>();

  constructor(body: readonly Stmt<PointerAddress>[]) {
    this.visit(body);
  }

  of(pointer: { readonly id: number }): number {
    return this.lowest.get(pointer.id) ?? 0;
  }

  private see({ pointer, disp }: PointerAddress): void {
    this.lowest.set(pointer.id, Math.min(disp, this.lowest.get(pointer.id) ?? disp));
  }

  private visit(stmts: readonly Stmt<PointerAddress>[]): void {
    for (const s of stmts) {
      switch (s.k) {
        case "for":
        case "parallel":
          this.visit(s.body);
          break;
        case "if":
          this.visit(s.body);
          this.visit(s.otherwise);
          break;
        case "load": {
          const last = s.mode === "strided" ? (s.lanes - 1) * s.stride : 0;
          this.see({ pointer: s.from.pointer, disp: s.from.disp + Math.min(0, last) });
          break;
        }
        case "gather":
        case "loadint":
          this.see(s.from);
          break;
        case "store":
          this.see(s.to);
          break;
        default: // nothing else touches memory; prefetches are dropped
      }
    }
  }
}
