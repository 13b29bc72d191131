// The constants of a piece of code, each kept once: which label each has, and where they lie behind the code.

/** 32-bit words, to be aligned to their size. */
export interface PoolEntry {
  readonly label: number;
  readonly words: Int32Array;
}

export class ConstantPool {
  private readonly entries: PoolEntry[] = [];
  private readonly byWords = new Map<string, PoolEntry>();
  /** Those of one word, by the word and how often it is repeated: nearly all. */
  private readonly byWord = new Map<number, PoolEntry>();

  /** Label of a constant; `newLabel` makes one for what is not there yet. */
  of(words: readonly number[], newLabel: () => number): number {
    if (words.every((w) => w === words[0])) return this.repeated(words[0], words.length, newLabel);
    const key = words.join();
    let entry = this.byWords.get(key);
    if (!entry) {
      entry = this.add(Int32Array.from(words), newLabel());
      this.byWords.set(key, entry);
    }
    return entry.label;
  }
  /** Label of a word `count` times (at most 16). */
  repeated(word: number, count: number, newLabel: () => number): number {
    const key = (word | 0) * 32 + count;
    let entry = this.byWord.get(key);
    if (!entry) {
      entry = this.add(new Int32Array(count).fill(word), newLabel());
      this.byWord.set(key, entry);
    }
    return entry.label;
  }
  private add(words: Int32Array, label: number): PoolEntry {
    const entry = { label, words };
    this.entries.push(entry);
    return entry;
  }

  /** Larger ones first, so that alignment wastes nothing between them. */
  inOrder(): readonly PoolEntry[] {
    return this.entries.toSorted((a, b) => b.words.length - a.words.length);
  }
}
