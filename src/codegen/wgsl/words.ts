// How WGSL keeps elements in memory: in words of as many neighbours as every access of a kernel takes.

/** Type of an element in memory. */
export type Stored = "f32" | "f16" | "i32" | "u32";

/** Elements of a word, by the name of the buffer or of the shared array. */
export type Words = Map<string, number>;

/** Elements of 16 bytes. */
export const mostOf = (type: Stored): number => (type === "f16" ? 8 : 4);

const vector = (type: string, count: number): string => (count === 1 ? type : `vec${count}<${type}>`);

/** Halves lie in words of 32 bits. */
export const wordType = (type: Stored, width: number): string =>
  type === "f16" && width > 1 ? vector("u32", width / 2) : vector(type, width);

/** Element i of a word, as what a register holds. */
export function elementOf(word: string, type: Stored, isBool: boolean, width: number, i: number): string {
  if (type === "f16") {
    if (width === 1) return `f32(${word})`;
    return `f32(bitcast<vec2<f16>>(${width === 2 ? word : `${word}.${"xyzw"[i >> 1]}`}).${"xy"[i & 1]})`;
  }
  const element = width === 1 ? word : `${word}.${"xyzw"[i]}`;
  return isBool ? `(${element} != 0u)` : element;
}

/** A word of what registers hold. */
export function toWord(type: Stored, isBool: boolean, values: readonly string[]): string {
  const elements = values.map((v) => (type === "f16" ? `f16(${v})` : isBool ? `u32(${v})` : v));
  if (elements.length === 1) return elements[0];
  if (type !== "f16") return `${vector(type, elements.length)}(${elements})`;
  const pairs = elements.flatMap((e, i) => (i & 1 ? [`bitcast<u32>(vec2<f16>(${elements[i - 1]}, ${e}))`] : []));
  return pairs.length === 1 ? pairs[0] : `${vector("u32", pairs.length)}(${pairs})`;
}

/** A buffer or shared array, and how it is accessed. */
export interface Access {
  readonly name: string;
  readonly type: Stored;
  readonly isBool: boolean;
  readonly width: number;
  /** Its memory is another array's, of halves. */
  readonly isForeign: boolean;
}

/** Number of the word with element `at`, a multiple of its elements, and `more`. */
export const wordAt = (at: string, width: number, more: number): string =>
  `(${at}${width === 1 ? "" : ` >> ${Math.log2(width)}u`})${more === 0 ? "" : ` + ${more}`}`;
