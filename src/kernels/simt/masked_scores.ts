// What masks make of the scores in a thread's fragments: scaled, capped, hidden, added to.
import type { DType } from "../../ir/dtype.ts";
import { FRAGMENT, float, fn, fragmentPlace, int, type Reg, type SimtBuilder, select, sum } from "../../ir/simt.ts";
import type { AttentionShape, ScoreMasks } from "./attention.ts";
import { type Head, rowOf } from "./head_tiles.ts";

/** Where element (batch, head, query, key) of a mask lies: 0 where one is for all. */
export interface MaskView {
  readonly dtype: DType;
  readonly elements: number;
  readonly batch: number;
  readonly head: number;
  readonly query: number;
  readonly key: number;
}

/** Of elements by fragment and number: products as scores, and what is left of a number where the mask hides the score. */
export interface ScoreChange {
  score(i: number, j: number, e: number, x: Reg): Reg;
  ofSeen(i: number, j: number, e: number, x: Reg): Reg;
}

/** The least finite float: what is subtracted where no score is larger than −∞, so that its powers are 0 and not NaN. */
export const LEAST = -3.4028234663852886e38;

export const maskPlace = (of: MaskView, at: Head, query: Reg): Reg =>
  sum(fn("mul", at.batch, of.batch), fn("mul", at.head, of.head), fn("mul", query, of.query));

export const cappedScore = (x: Reg, scale: number, cap: number): Reg =>
  cap > 0 ? fn("mul", fn("tanh", fn("mul", x, scale / cap)), cap) : fn("mul", x, scale);

/** Rows of fragments are queries and columns keys, or, where they are turned, the other way round. */
export class MaskedScores {
  private readonly masks: readonly {
    readonly buffer: number;
    readonly isSeen: boolean;
    readonly view: MaskView;
    readonly ofRow: number;
    readonly ofColumn: number;
  }[];
  private readonly ends: readonly [row: number, column: number];
  /** Where rows begin, by mask, fragment and row of a thread; what they have in common where one is for all columns. */
  private rows: readonly (readonly (readonly Reg[])[])[] = [];

  constructor(
    private readonly b: SimtBuilder,
    private readonly shape: AttentionShape,
    private readonly own: ScoreMasks,
    isTurned = false,
  ) {
    const { queries, keys } = shape;
    this.ends = isTurned ? [keys - 1, queries - 1] : [queries - 1, keys - 1];
    this.masks = (["seen", "bias"] as const).flatMap((of) => {
      const view = own[of];
      if (!view) return [];
      const [ofRow, ofColumn] = isTurned ? [view.key, view.query] : [view.query, view.key];
      return [{ buffer: b.buffer(of, view.dtype, view.elements, "read"), isSeen: of === "seen", view, ofRow, ofColumn }];
    });
  }

  /** Of the subgroup's rows from `row` on, `down` fragments of them. */
  begin(at: Head, row: Reg, down: number): void {
    const { b } = this;
    this.rows = this.masks.map(({ view, buffer, ofRow, ofColumn }) => {
      const head = b.let(maskPlace(view, at, int(0)));
      return Array.from({ length: down }, (_, i) =>
        [0, 1].map((r) => {
          const near = fn("min", sum(row, i * FRAGMENT, fragmentPlace(2 * r).row), this.ends[0]);
          const first = b.let(sum(head, fn("mul", near, ofRow)));
          return ofColumn === 0 ? b.let(b.load(buffer, first)) : first;
        }),
      );
    });
  }

  /** Columns are those from `column` on. */
  at(column: Reg): ScoreChange {
    const { b, own, shape } = this;
    const known = new Map<string, Reg>();
    const first = b.let(sum(column, fragmentPlace(0).column));
    const element = (m: number, i: number, j: number, e: number): Reg => {
      const { buffer, ofRow, ofColumn } = this.masks[m];
      const row = this.rows[m][i][rowOf(e)];
      if (ofColumn === 0) return row;
      const place = j * FRAGMENT + (e & 1) + (e & 4 ? 8 : 0);
      // One for all rows is read once.
      const name = ofRow === 0 ? `${m} ${place}` : `${m} ${place} ${i} ${rowOf(e)}`;
      const near = fn("min", sum(first, place), this.ends[1]);
      const value = known.get(name) ?? b.let(b.load(buffer, b.let(sum(row, fn("mul", near, ofColumn)))));
      known.set(name, value);
      return value;
    };
    return {
      score: (i, j, e, x) => {
        let score = cappedScore(x, shape.scale, own.cap);
        for (const [m, { isSeen }] of this.masks.entries()) {
          const value = element(m, i, j, e);
          score = isSeen ? select(value, score, float(own.hidden)) : fn("add", score, value);
        }
        return b.let(score);
      },
      ofSeen: (i, j, e, x) => this.masks.reduce((all, { isSeen }, m) => (isSeen ? select(element(m, i, j, e), all, float(0)) : all), x),
    };
  }
}
