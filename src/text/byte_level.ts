// Bytes ↔ the printable characters that stand for them in byte-level vocabularies (GPT-2's table), and text → the words that merges stay within.
import { HeddleError } from "../ir/error.ts";

/** Printable bytes stand for themselves; the others for the characters from U+0100 on. */
const isPrintable = (byte: number): boolean => (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;

/** Byte → character. */
export const CHARACTERS: readonly string[] = (() => {
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => String.fromCodePoint(isPrintable(byte) ? byte : next++));
})();

const BYTES: ReadonlyMap<string, number> = new Map(CHARACTERS.map((character, byte) => [character, byte]));

/** The bytes of a vocabulary's entry, or undefined where it is none of a byte-level vocabulary. */
export function bytesOfEntry(entry: string): Uint8Array | undefined {
  const bytes = Array.from(entry, (character) => BYTES.get(character));
  return bytes.includes(undefined) ? undefined : Uint8Array.from(bytes as number[]); // checked
}

export function entryOf(bytes: Uint8Array): string {
  let entry = "";
  for (const byte of bytes) entry += CHARACTERS[byte];
  return entry;
}

/** GPT-2's: a word, a number or punctuation, each with the space before it; runs of white space without their last space. */
export const GPT2_PATTERN = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

/** `(?i:…)`, which older engines lack, over letters and apostrophes. */
const caseless = (body: string): string => `(?:${body.replace(/[a-z]/gi, (letter) => `[${letter.toLowerCase()}${letter.toUpperCase()}]`)})`;

/** A pattern of a tokenizer file, as JavaScript means it. Throws HeddleError ("unsupported"). */
export function compilePattern(pattern: string): RegExp {
  const source = pattern
    .replace(/\(\?i:([a-z'|]*)\)/gi, (_, body: string) => caseless(body))
    .replace(/\\s/g, "\\p{White_Space}") // JavaScript's \s has U+FEFF and lacks U+0085
    .replace(/\\S/g, "\\P{White_Space}");
  try {
    return new RegExp(source, "gu");
  } catch (cause) {
    throw new HeddleError("unsupported", `tokenizer: the pattern ${JSON.stringify(pattern)} is not understood`, { cause });
  }
}

/** All of a text, in order: what the pattern finds, and what lies between. */
export function* splitWords(text: string, pattern: RegExp): Generator<string> {
  let at = 0;
  for (const { 0: word, index } of text.matchAll(pattern)) {
    if (index > at) yield text.slice(at, index);
    if (word !== "") yield word;
    at = index + word.length;
  }
  if (at < text.length) yield text.slice(at);
}
