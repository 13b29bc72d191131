// 2:4 sparsity: of four neighbours in a row at most two are nonzero; two values and two 2-bit positions are stored for each four.
import { HeddleError } from "../ir/error.ts";
import { type Coo, sortCoo } from "./coo.ts";
import { newValues, type Values, type ValueType } from "./values.ts";
import type { Visit } from "./visit.ts";

export interface TwoFour {
  readonly kind: "2:4";
  readonly rows: number;
  readonly columns: number;
  /** (rows, ⌈⌈columns / 4⌉ / 2⌉): four bits for each group of four, the even one's below; of those, two for the first value's place and two for the second's, which is greater. */
  readonly places: Uint8Array;
  readonly dtype: ValueType;
  /** (rows, ⌈columns / 4⌉, 2); zero where a group has less than two nonzeros. */
  readonly values: Values;
}

export const groupsOf = (columns: number): number => Math.ceil(columns / 4);
/** Bytes of places in one row. */
export const placeBytes = (columns: number): number => Math.ceil(groupsOf(columns) / 2);

/** Throws HeddleError ("bad-input") where three of four are nonzero. */
export function twoFourFromCoo(m: Coo): TwoFour {
  const { rows, columns, dtype, row, column, values } = sortCoo(m);
  const groups = groupsOf(columns);
  const places = new Uint8Array(rows * placeBytes(columns));
  const out = newValues(dtype, rows * groups * 2);
  const first = (i: number) => row[i] * groups + (column[i] >> 2);
  for (let group = 0, i = 0; group < rows * groups; group++) {
    let end = i;
    while (end < values.length && first(end) === group) end++;
    if (end - i > 2)
      throw new HeddleError(
        "bad-input",
        `2:4: row ${row[i]} has ${end - i} nonzeros in columns ${column[i] & ~3} to ${column[i] | 3}; prune to 2:4 first`,
      );
    const [low, high] = pairOf(i < end ? column[i] & 3 : 0, end - i === 2 ? column[i + 1] & 3 : -1);
    places[Math.floor(group / groups) * placeBytes(columns) + ((group % groups) >> 1)] |=
      (low | (high << 2)) << ((group % groups) & 1 ? 4 : 0);
    for (; i < end; i++) out[group * 2 + ((column[i] & 3) === low ? 0 : 1)] = values[i];
  }
  return { kind: "2:4", rows, columns, places, dtype, values: out };
}

/** Two different places in order, one of which is `place`; -1 stands for a second one that does not matter. */
const pairOf = (place: number, second: number): [number, number] =>
  second >= 0 ? [place, second] : place === 3 ? [2, 3] : [place, place + 1];

/** Where value `half` (0 or 1) of a group lies among the four. */
export function placeOf({ columns, places }: TwoFour, row: number, group: number, half: number): number {
  return (places[row * placeBytes(columns) + (group >> 1)] >> ((group & 1) * 4 + half * 2)) & 3;
}

/** All stored elements inside the matrix, row by row. */
export function visitTwoFour(m: TwoFour, visit: Visit): void {
  const groups = groupsOf(m.columns);
  for (let row = 0, slot = 0; row < m.rows; row++)
    for (let group = 0; group < groups; group++)
      for (let half = 0; half < 2; half++, slot++) {
        const column = group * 4 + placeOf(m, row, group, half);
        if (column < m.columns) visit(row, column, slot);
      }
}
