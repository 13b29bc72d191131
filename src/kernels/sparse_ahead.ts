// What a sparse product asks for before it is needed: while rows meet a panel, what the next panel takes of the dense operand, and rows of results. Neither comes in an order that processors foresee.
// Both go to the second-level cache: the nearest one is full of the panel.
import { type Int, type KernelBuilder, plus, type SimdTarget, times } from "../ir/kernel.ts";
import type { EpilogueCode } from "./epilogue.ts";
import { sparseVectors } from "./sparse_columns.ts";
import type { Reach } from "./sparse_reach.ts";
import type { PanelTile } from "./sparse_side.ts";

/** What of a walk decides what is asked for. */
export interface Walked {
  readonly rows: number;
  readonly depth: number;
  readonly n: number;
  readonly block: number;
  readonly strip: number;
  readonly panel: number;
  readonly panels: number;
  readonly abreast: number;
  readonly broad: boolean;
}

/** Rows of the operand that a bundle asks for, at most: of few rows there are few bundles, which would take as long for that as for what they multiply. */
const MOST_ROWS = 8;
/** The share of the second-level cache from which on the operand, and the bytes from which on lines that results are stored to, come from farther: to ask for what is there costs a few percent. */
const NEAR_OPERAND = 1 / 8;
const NEAR_RESULTS = 256 << 10;
/** The share of the second-level cache that lines of results may take which wait there for a strip's end: more of them gained nothing. */
const MOST_WAITING = 1 / 16;
/** Bundles between asking for rows of results and storing them. */
const BUNDLES_AHEAD = 4;
const LINE = 64;
const LEVEL = 2;

/** Rows of the operand that each bundle asks for; 0: none. */
export function operandAhead(walked: Walked, target: SimdTarget): number {
  const { rows, depth, n, block, strip, panel, panels, abreast, broad } = walked;
  const isOne = panels === 1 && n <= sparseVectors(n, target) * target.lanes;
  if (target.loadsFirst || broad || isOne || 4 * depth * n <= NEAR_OPERAND * target.l2) return 0;
  const asked = Math.ceil(panel / Math.ceil(Math.min(rows, strip * block) / abreast));
  return asked > MOST_ROWS ? 0 : asked;
}

export const asksForResults = ({ rows, n, broad }: Walked, { loadsFirst, l2 }: SimdTarget): boolean =>
  !loadsFirst && !broad && 4 * rows * n > Math.min(NEAR_RESULTS, l2 / 4);

/** A row of the result as its epilogue counts, and the first column there. */
export interface ResultPlace {
  readonly row: Int;
  readonly column: Int;
}

export class Ahead {
  private readonly asked: number;
  private readonly asksForResults: boolean;

  constructor(
    private readonly b: KernelBuilder,
    private readonly shape: Walked,
    private readonly target: SimdTarget,
  ) {
    this.asked = operandAhead(shape, target);
    this.asksForResults = asksForResults(shape, target);
  }

  /** What bundles of a panel, of which `first` is the first one, do to ask for their part of the next panel: of an operand whose rows and tiles are so many bytes apart. After the last panel comes the first one of the columns that follow. */
  ofOperand(
    operand: number,
    { row: rowBytes, column: columnBytes }: Reach["lying"],
    number: Int,
    { column, width }: PanelTile,
    first: Int,
  ): (bundle: Int) => void {
    const { b, shape, asked } = this;
    const { panel, panels } = shape;
    if (asked === 0) return () => {};
    const isLast = b.max(plus(number, 2 - panels), 0);
    const start = b.set(
      plus(
        times(plus(number, 1), panel * rowBytes),
        times(isLast, columnBytes * width - panels * panel * rowBytes),
        times(column, columnBytes),
        times(first, -asked * rowBytes),
      ),
    );
    return (bundle) => {
      const at = b.set(plus(start, times(bundle, asked * rowBytes)));
      for (let k = 0; k < asked; k++)
        for (let line = 0; line < 4 * width; line += LINE) b.prefetch(operand, plus(at, k * rowBytes + line), LEVEL);
    };
  }

  /** In the last panel: asks for the rows that a bundle two further ends in, which `placesOf` names. */
  ofResults(
    epilogue: EpilogueCode,
    bundle: Int,
    most: number,
    number: Int,
    { width }: PanelTile,
    placesOf: (bundle: Int) => readonly ResultPlace[],
  ): void {
    const { b, shape, target } = this;
    if (!this.asksForResults) return;
    const ask = (): void => {
      for (const { row, column } of placesOf(b.min(plus(bundle, BUNDLES_AHEAD), most)))
        for (let v = 0; v * target.lanes < width; v++) epilogue.prefetch(row, plus(column, v * target.lanes), LEVEL);
    };
    if (shape.panels === 1) ask();
    else b.when(shape.panels - 2, number, ask);
  }

  /**
   * In the last panel of a strip, of results by rows of pixels: each bundle, of which `first` is the first one, asks for the lines of some pixels with its rows' channels.
   * They are stored together after the panel, a line of each pixel at a time, in which processors see no stream.
   */
  ofTurned(epilogue: EpilogueCode, strip: Int, number: Int, { column, width }: PanelTile, first: Int): (bundle: Int) => void {
    const { b, shape } = this;
    const { n, rows, block, panels, abreast } = shape;
    const waiting = 4 * width * Math.min(rows, shape.strip * block);
    if (!this.asksForResults || waiting > MOST_WAITING * this.target.l2) return () => {};
    const channels = LINE / 4;
    const bundles = channels / abreast;
    const pixels = Math.ceil(width / bundles);
    const top = times(strip, shape.strip * block);
    return (bundle) => {
      const ask = (): void => {
        const i = b.set(plus(bundle, times(first, -1)));
        const line = b.div(i, bundles);
        const channel = b.set(b.min(plus(top, times(line, channels)), rows - 1));
        const pixel = b.set(plus(column, times(i, pixels), times(line, -bundles * pixels)));
        for (let p = 0; p < pixels; p++) epilogue.prefetch(b.min(plus(pixel, p), n - 1), channel, LEVEL);
      };
      if (panels === 1) ask();
      else b.when(panels - 2, number, ask);
    };
  }
}
