// What masks make of the scores in a thread's fragments: scaled, capped, hidden, added to.
import type { DType } from "../../ir/dtype.ts";
import { FRAGMENT, float, fn, fragmentPlace, type Reg, type SimtBuilder, select, sum } from "../../ir/simt.ts";
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

/** A product by fragment and number, as a score. */
export type ScoreChange = (i: number, j: number, e: number, x: Reg) => Reg;

/** The least finite float: what is subtracted where no score is larger than −∞, so that its powers are 0 and not NaN. */
export const LEAST = -3.4028234663852886e38;

export const maskPlace = (of: MaskView, at: Head, query: Reg): Reg =>
  sum(fn("mul", at.batch, of.batch), fn("mul", at.head, of.head), fn("mul", query, of.query));

export const cappedScore = (x: Reg, scale: number, cap: number): Reg =>
  cap > 0 ? fn("mul", fn("tanh", fn("mul", x, scale / cap)), cap) : fn("mul", x, scale);

export class MaskedScores {
  private readonly masks: readonly { readonly view: MaskView; readonly buffer: number; readonly isSeen: boolean }[];
  /** Where rows begin, by mask, fragment and row of a thread. */
  private rows: readonly (readonly (readonly Reg[])[])[] = [];

  constructor(
    private readonly b: SimtBuilder,
    private readonly shape: AttentionShape,
    private readonly own: ScoreMasks,
  ) {
    this.masks = (["seen", "bias"] as const).flatMap((of) => {
      const view = own[of];
      return view ? [{ view, buffer: b.buffer(of, view.dtype, view.elements, "read"), isSeen: of === "seen" }] : [];
    });
  }

  /** Of the subgroup's rows from `row` on, `down` fragments of them. */
  begin(at: Head, row: Reg, down: number): void {
    const { b, shape } = this;
    this.rows = this.masks.map(({ view }) =>
      Array.from({ length: down }, (_, i) =>
        [0, 1].map((r) => {
          const query = fn("min", sum(row, i * FRAGMENT, fragmentPlace(2 * r).row), shape.queries - 1);
          return b.let(maskPlace(view, at, query));
        }),
      ),
    );
  }

  /** Columns are keys from `column` on. */
  at(column: Reg): ScoreChange {
    const { b, own, shape } = this;
    const known = new Map<string, Reg>();
    const key = b.let(sum(column, fragmentPlace(0).column));
    const element = (m: number, i: number, j: number, e: number): Reg => {
      const { view, buffer } = this.masks[m];
      const place = j * FRAGMENT + (e & 1) + (e & 4 ? 8 : 0);
      // One for all rows is read once.
      const name = view.query === 0 ? `${m} ${place}` : `${m} ${place} ${i} ${rowOf(e)}`;
      const near = fn("min", sum(key, place), shape.keys - 1);
      const value = known.get(name) ?? b.let(b.load(buffer, b.let(sum(this.rows[m][i][rowOf(e)], fn("mul", near, view.key)))));
      known.set(name, value);
      return value;
    };
    return (i, j, e, x) => {
      let score = cappedScore(x, shape.scale, own.cap);
      for (const [m, { isSeen }] of this.masks.entries()) {
        const value = element(m, i, j, e);
        score = isSeen ? select(value, score, float(own.hidden)) : fn("add", score, value);
      }
      return b.let(score);
    };
  }
}
