// Chapters of text → letters without the spaces between words, and where the spaces were: what a network is to find again.
import { HeddleError } from "../../src/ir/error.ts";
import { fromArray, type Key, random, type Tensor } from "../../src/tensor/index.ts";

/** Letters are 1 to 26; 0 stands where there is no text. */
export const LETTERS = 27;

/** Letters one after the other; a word ends after some. */
export interface Letters {
  readonly letters: Uint8Array;
  /** 1 where a word ends. */
  readonly ends: Uint8Array;
}

/** Windows: letters and ends i32 (n, length). */
export interface Batch {
  readonly letters: Tensor;
  readonly ends: Tensor;
}

export function lettersOf(text: string): Letters {
  const words = text.toLowerCase().match(/[a-z]+/g) ?? [];
  const joined = words.join("");
  const letters = Uint8Array.from(joined, (c) => c.charCodeAt(0) - 96);
  const ends = new Uint8Array(letters.length);
  let at = -1;
  for (const word of words) {
    at += word.length;
    ends[at] = 1;
  }
  return { letters, ends };
}

/** Of ten chapters the last is held out. */
export function split(chapters: readonly string[]): { learned: Letters; judged: Letters } {
  const isHeld = (_: string, i: number) => i % 10 === 9;
  const [judged, learned] = [chapters.filter(isHeld), chapters.filter((c, i) => !isHeld(c, i))].map((part) => lettersOf(part.join(" ")));
  if (judged.letters.length === 0)
    throw new HeddleError("bad-input", `text: ${chapters.length} chapters, wanted 10 or more with words in them`);
  return { learned, judged };
}

/** Windows from these places on. */
export function windows({ letters, ends }: Letters, starts: readonly number[], length: number): Batch {
  const cut = (from: Uint8Array) => {
    const out = new Int32Array(starts.length * length);
    for (const [i, start] of starts.entries()) out.set(from.subarray(start, start + length), i * length);
    return fromArray(out, [starts.length, length]);
  };
  return { letters: cut(letters), ends: cut(ends) };
}

/** Windows from places of the key's. */
export async function randomWindows(text: Letters, count: number, length: number, key: Key): Promise<Batch> {
  const places = await random.uniform(key, [count]).numbers();
  return windows(text, Array.from(places, (p) => Math.floor(p * (text.letters.length - length))), length); // biome-ignore format: short
}
