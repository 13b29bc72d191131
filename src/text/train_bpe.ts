// Words and how often they occur → the merges of a byte-pair vocabulary: again and again the most frequent pair becomes one symbol (Sennrich et al. 2016).
import { CHARACTERS } from "./byte_level.ts";

export interface Merge {
  readonly left: number;
  readonly right: number;
  readonly id: number;
}

export interface TrainedVocabulary {
  /** By number: special tokens, the 256 bytes in the order of their characters, then what merges made. */
  readonly entries: readonly string[];
  readonly merges: readonly Merge[];
}

export interface TrainOptions {
  /** Of the whole vocabulary; fewer where the text has no more pairs that are frequent enough. */
  readonly vocabSize: number;
  /** Rarer pairs are not merged. */
  readonly minFrequency: number;
  /** Get the first numbers. */
  readonly special: readonly string[];
}

/** Two symbols as one number: vocabularies have fewer than 2^24 entries. */
const SHIFT = 2 ** 24;

/** Pairs by their count, then by their numbers: which one is merged next is the same on every machine, and as in Hugging Face's trainer. */
class PairQueue {
  private readonly counts: number[] = [];
  private readonly pairs: number[] = [];

  private isBefore(i: number, j: number): boolean {
    return this.counts[i] > this.counts[j] || (this.counts[i] === this.counts[j] && this.pairs[i] < this.pairs[j]);
  }

  private swap(i: number, j: number): void {
    [this.counts[i], this.counts[j]] = [this.counts[j], this.counts[i]];
    [this.pairs[i], this.pairs[j]] = [this.pairs[j], this.pairs[i]];
  }

  push(pair: number, count: number): void {
    let at = this.pairs.push(pair) - 1;
    this.counts.push(count);
    for (let up = (at - 1) >> 1; at > 0 && this.isBefore(at, up); up = (at - 1) >> 1) {
      this.swap(at, up);
      at = up;
    }
  }

  pop(): { pair: number; count: number } | undefined {
    if (this.pairs.length === 0) return undefined;
    this.swap(0, this.pairs.length - 1);
    const top = { pair: this.pairs.pop()!, count: this.counts.pop()! };
    for (let at = 0; ; ) {
      let first = at;
      for (const child of [2 * at + 1, 2 * at + 2]) if (child < this.pairs.length && this.isBefore(child, first)) first = child;
      if (first === at) return top;
      this.swap(at, first);
      at = first;
    }
  }
}

/** Words as rows of symbols, with the counts of all pairs kept up to date: a merge touches the words that have it, and no others. */
class Corpus {
  readonly counts = new Map<number, number>();
  private readonly words: readonly number[][];
  private readonly frequencies: readonly number[];
  /** Pair → words that had it at some time. */
  private readonly places = new Map<number, number[]>();
  /** The merge that visited a word last. */
  private readonly visited: Int32Array;

  constructor(words: readonly number[][], frequencies: readonly number[]) {
    this.words = words;
    this.frequencies = frequencies;
    this.visited = new Int32Array(words.length).fill(-1);
    for (const i of words.keys()) this.add(i, 1, undefined);
  }

  /** Counts a word's pairs, or takes them back; pairs that come to be more frequent are noted in `grown`. */
  private add(index: number, sign: 1 | -1, grown: Set<number> | undefined): void {
    const word = this.words[index];
    const change = sign * this.frequencies[index];
    for (let i = 1; i < word.length; i++) {
      const pair = word[i - 1] * SHIFT + word[i];
      this.counts.set(pair, (this.counts.get(pair) ?? 0) + change);
      if (sign < 0) continue;
      grown?.add(pair);
      const places = this.places.get(pair);
      if (!places) this.places.set(pair, [index]);
      else if (places.at(-1) !== index) places.push(index);
    }
  }

  /** Makes one symbol of a pair everywhere. Returns the pairs that may have become more frequent. */
  merge(pair: number, id: number, turn: number): Set<number> {
    const [left, right] = [Math.floor(pair / SHIFT), pair % SHIFT];
    const grown = new Set<number>();
    for (const index of this.places.get(pair) ?? []) {
      if (this.visited[index] === turn) continue;
      this.visited[index] = turn;
      this.add(index, -1, undefined);
      joinPair(this.words[index], left, right, id);
      this.add(index, 1, grown);
    }
    this.places.delete(pair);
    this.counts.delete(pair);
    return grown;
  }
}

/** In place, from the left. */
function joinPair(word: number[], left: number, right: number, id: number): void {
  let to = 0;
  for (let from = 0; from < word.length; to++) {
    const isPair = word[from] === left && word[from + 1] === right;
    word[to] = isPair ? id : word[from];
    from += isPair ? 2 : 1;
  }
  word.length = to;
}

/** Learns merges from words (any text) and their frequencies. */
export function trainVocabulary(words: ReadonlyMap<string, number>, { vocabSize, minFrequency, special }: TrainOptions): TrainedVocabulary {
  const alphabet = CHARACTERS.toSorted(); // all are single UTF-16 units: sorted by code point
  const entries = [...special, ...alphabet];
  const ids = new Map(entries.map((entry, id) => [entry, id]));
  const idOfByte = CHARACTERS.map((character) => special.length + alphabet.indexOf(character));
  const encoder = new TextEncoder();
  const rows = Array.from(words.keys(), (word) => Array.from(encoder.encode(word), (byte) => idOfByte[byte]));
  const corpus = new Corpus(rows, [...words.values()]);
  const queue = new PairQueue();
  for (const [pair, count] of corpus.counts) queue.push(pair, count);
  const merges: Merge[] = [];
  while (entries.length < vocabSize) {
    const top = queue.pop();
    if (!top) break;
    const count = corpus.counts.get(top.pair) ?? 0;
    if (count !== top.count) {
      if (count > 0 && count < top.count) queue.push(top.pair, count); // where it grew, it was pushed then
      continue;
    }
    if (count < Math.max(minFrequency, 1)) break;
    const [left, right] = [Math.floor(top.pair / SHIFT), top.pair % SHIFT];
    const entry = entries[left] + entries[right];
    let id = ids.get(entry); // two ways may lead to one entry
    if (id === undefined) {
      id = entries.push(entry) - 1;
      ids.set(entry, id);
    }
    merges.push({ left, right, id });
    for (const grown of corpus.merge(top.pair, id, merges.length)) queue.push(grown, corpus.counts.get(grown) ?? 0);
  }
  return { entries, merges };
}
