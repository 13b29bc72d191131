// Spreads the loads of a tile of an operand over the threads of a workgroup: what each thread takes from memory, and where it puts it.
import { invariant } from "../../ir/error.ts";
import { fn, type Reg, type SimtBuilder, select, sum, thread } from "../../ir/simt.ts";
import type { Operand } from "./operand.ts";

/** One vector of a thread in each tile along the depth. */
interface Piece {
  /** First element in the tile. */
  readonly row: Reg;
  readonly depth: Reg;
  /** Of its row, which is the same in all tiles. */
  readonly parts: readonly Reg[];
  readonly isRow: Reg | null;
}

/** A vector to load: where from, where to in the tile, and whether it is there (null: always); outside, `at` is an element of the buffer still. */
export interface Take {
  readonly at: Reg;
  readonly isInside: Reg | null;
  readonly row: Reg;
  readonly depth: Reg;
}

export class Share {
  /** Elements of a vector. */
  readonly run: number;
  private readonly pieces: readonly Piece[];
  private readonly known = new Map<Reg, { readonly parts: readonly Reg[]; readonly isInside: Reg | null }>();

  /** `firstRow` of a tile of `rows` × `depth`; vectors have at most `most` elements. */
  constructor(
    private readonly b: SimtBuilder,
    private readonly operand: Operand,
    { batch, firstRow }: { readonly batch: Reg; readonly firstRow: Reg },
    { rows, depth, threads, most }: { readonly rows: number; readonly depth: number; readonly threads: number; readonly most: number },
  ) {
    this.run = Math.min(operand.run, most);
    const perLine = (operand.along === "depth" ? depth : rows) / this.run;
    const count = (rows * depth) / this.run / threads;
    invariant(Number.isInteger(count), `${b.name}: tiles of ${rows} × ${depth} for ${threads} threads`);
    const column = this.vectorsOf(fn("rem", thread(), perLine));
    const firstLine = b.let(fn("div", thread(), perLine));
    this.pieces = Array.from({ length: count }, (_, i) => {
      // Where all of a line is taken at once, a thread stays in its column.
      const whole = threads % perLine === 0;
      const at = sum(thread(), i * threads);
      const along = whole ? column : this.vectorsOf(fn("rem", at, perLine));
      const line = whole ? sum(firstLine, i * (threads / perLine)) : b.let(fn("div", at, perLine));
      const [row, d] = operand.along === "depth" ? [line, along] : [along, line];
      const r = b.let(sum(firstRow, row));
      return { row, depth: d, parts: operand.rowParts(b, batch, r), isRow: operand.rows % rows === 0 ? null : fn("lt", r, operand.rows) };
    });
  }

  private vectorsOf(number: Reg): Reg {
    return this.b.let(fn("mul", number, this.run));
  }

  /** What the thread takes of the tile that begins at `from`; depths from `to` on are not there. `isWhole`: no tile reaches beyond. */
  takes(from: Reg, to: Reg, isWhole: boolean): readonly Take[] {
    const { b, operand } = this;
    this.known.clear();
    return this.pieces.map(({ row, depth, parts, isRow }) => {
      let of = this.known.get(depth);
      if (!of) {
        const d = b.let(sum(from, depth));
        of = { parts: operand.depthParts(b, d), isInside: isWhole ? null : b.let(fn("lt", d, to)) };
        this.known.set(depth, of);
      }
      const spot = operand.spot(parts, of.parts);
      const isInside = [isRow, of.isInside, spot.isInside].reduce<Reg | null>(
        (all, c) => (all && c ? fn("and", all, c) : (all ?? c)),
        null,
      );
      const inside = isInside && b.let(isInside);
      return { row, depth, isInside: inside, at: b.let(inside ? select(inside, spot.at, sum(0)) : spot.at) };
    });
  }
}
