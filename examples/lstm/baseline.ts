// What counting gives: ends of words by the letters around them, as often as they were seen to be ends.
import type { Letters } from "./text.ts";
import { LETTERS } from "./text.ts";

/** Letters before and after a place that are looked at. */
const SIDES = [3, 2];

/** Numbers the letters around a place; places at the margins see zeros. */
function around(letters: Uint8Array, at: number): number {
  let code = 0;
  for (let i = at - SIDES[0] + 1; i <= at + SIDES[1]; i++) code = code * LETTERS + (letters[i] ?? 0);
  return code;
}

/** Counts in the first text; what it holds for ends of words in the second. */
export function countedEnds(learned: Letters, judged: Letters): Uint8Array {
  const balance = new Map<number, number>();
  for (const [at, end] of learned.ends.entries()) {
    const code = around(learned.letters, at);
    balance.set(code, (balance.get(code) ?? 0) + (end ? 1 : -1));
  }
  return Uint8Array.from(judged.letters, (_, at) => ((balance.get(around(judged.letters, at)) ?? 0) > 0 ? 1 : 0));
}
