// Text ↔ token numbers by a byte-level byte-pair vocabulary: any text comes back from its tokens.
import { readFile } from "node:fs/promises";
import { writeFileAtomic } from "../formats/write_file.ts";
import { HeddleError } from "../ir/error.ts";
import { bytesOfEntry, CHARACTERS, compilePattern, GPT2_PATTERN, splitWords } from "./byte_level.ts";
import { MergeTable, mergeWord } from "./merge_word.ts";
import { parseTokenizerJson, type TokenizerParts, tokenizerJson } from "./tokenizer_json.ts";
import { trainVocabulary } from "./train_bpe.ts";

export interface BpeTrainOptions {
  readonly vocabSize: number;
  /** Pairs that occur less often are not merged. Default 2. */
  readonly minFrequency?: number;
  /** Tokens that stand for themselves, as `<|endoftext|>`. Default none. */
  readonly special?: readonly string[];
  /** What merges stay within, as a pattern. Default: GPT-2's words. */
  readonly pattern?: string;
}

/** Words remembered with their tokens; then it starts anew. */
const CACHED_WORDS = 2 ** 16;
const CACHED_LENGTH = 64;

export class BpeTokenizer {
  private readonly parts: TokenizerParts;
  private readonly pattern: RegExp;
  private readonly merges: MergeTable;
  /** Token → bytes; special tokens are their text. */
  private readonly bytes = new Map<number, Uint8Array>();
  private readonly idOfByte: Int32Array;
  private readonly specialPattern: RegExp | undefined;
  private readonly cache = new Map<string, Int32Array>();

  private constructor(parts: TokenizerParts) {
    this.parts = parts;
    this.pattern = compilePattern(parts.pattern);
    this.merges = new MergeTable(parts.merges);
    for (const [entry, id] of parts.vocabulary) this.bytes.set(id, bytesOfEntry(entry) ?? new TextEncoder().encode(entry));
    for (const [text, id] of parts.special) this.bytes.set(id, new TextEncoder().encode(text));
    this.idOfByte = Int32Array.from(CHARACTERS, (character) => parts.vocabulary.get(character)!); // the parser checked that all are there
    const texts = [...parts.special.keys()].toSorted((a, b) => b.length - a.length); // the longest that fits
    if (texts.length > 0)
      this.specialPattern = new RegExp(texts.map((text) => text.replace(/[\\^$.*+?()[\]{}|/-]/g, "\\$&")).join("|"), "g");
  }

  /** Learns a vocabulary from texts. The same texts give the same vocabulary, and the one that Hugging Face's trainer finds. */
  static train(texts: string | Iterable<string>, options: BpeTrainOptions): BpeTokenizer {
    const { vocabSize, minFrequency = 2, special = [], pattern = GPT2_PATTERN } = options;
    const least = 256 + special.length;
    if (!Number.isSafeInteger(vocabSize) || vocabSize < least || vocabSize >= 2 ** 24)
      throw new HeddleError(
        "bad-argument",
        `tokenizer: vocabSize ${vocabSize}, wanted ${least} (bytes and special tokens) to ${2 ** 24 - 1}`,
      );
    const words = new Map<string, number>();
    const compiled = compilePattern(pattern);
    for (const text of typeof texts === "string" ? [texts] : texts)
      for (const word of splitWords(text, compiled)) words.set(word, (words.get(word) ?? 0) + 1);
    const { entries, merges } = trainVocabulary(words, { vocabSize, minFrequency, special });
    return new BpeTokenizer({
      vocabulary: new Map(entries.slice(special.length).map((entry, i) => [entry, special.length + i])),
      merges,
      special: new Map(special.map((text, id) => [text, id])),
      pattern,
      addPrefixSpace: false,
      isNfc: false,
    });
  }

  /** Of the content of a Hugging Face tokenizer.json. Throws HeddleError ("bad-input", "unsupported"). */
  static fromJson(json: string, what = "tokenizer"): BpeTokenizer {
    return new BpeTokenizer(parseTokenizerJson(json, what));
  }

  /** Reads a Hugging Face tokenizer.json. Throws HeddleError ("missing", "bad-input", "unsupported"). */
  static async load(path: string): Promise<BpeTokenizer> {
    const json = await readFile(path, "utf8").catch((cause) => {
      throw new HeddleError("missing", `${path}: cannot be read: ${(cause as Error).message}`, { cause });
    });
    return BpeTokenizer.fromJson(json, path);
  }

  /** The content of a Hugging Face tokenizer.json. */
  toJson(): string {
    return tokenizerJson(this.parts);
  }

  /** Writes a file, or leaves the one that is there. */
  save(path: string): Promise<void> {
    return writeFileAtomic(path, this.toJson());
  }

  /** One more than the largest token number. */
  get vocabSize(): number {
    return Math.max(...this.bytes.keys()) + 1;
  }

  /** The number of a special token. Throws HeddleError ("bad-argument") for one that there is not. */
  special(text: string): number {
    const id = this.parts.special.get(text);
    if (id === undefined) throw new HeddleError("bad-argument", `tokenizer: no special token ${text} (${[...this.parts.special.keys()]})`);
    return id;
  }

  /** Special tokens in the text become their numbers; none are added. What is no valid Unicode becomes U+FFFD. */
  encode(text: string): Int32Array {
    const out = new TokenList();
    let at = 0;
    for (const { 0: special, index } of this.specialPattern ? text.matchAll(this.specialPattern) : []) {
      this.encodePlain(text.slice(at, index), out);
      out.push(this.parts.special.get(special)!);
      at = index + special.length;
    }
    this.encodePlain(text.slice(at), out);
    return out.take();
  }

  private encodePlain(text: string, out: TokenList): void {
    if (text === "") return;
    const { addPrefixSpace, isNfc } = this.parts;
    let normal = text;
    if (isNfc) normal = normal.normalize("NFC");
    if (addPrefixSpace && !normal.startsWith(" ")) normal = ` ${normal}`;
    for (const word of splitWords(normal, this.pattern)) out.append(this.encodeWord(word));
  }

  private encodeWord(word: string): Int32Array {
    const known = this.cache.get(word);
    if (known) return known;
    const symbols = Int32Array.from(new TextEncoder().encode(word), (byte) => this.idOfByte[byte]);
    const tokens = symbols.slice(0, mergeWord(symbols, this.merges));
    if (word.length <= CACHED_LENGTH) {
      if (this.cache.size >= CACHED_WORDS) this.cache.clear();
      this.cache.set(word, tokens);
    }
    return tokens;
  }

  /** The bytes of a token. Throws HeddleError ("bad-argument") for a number that is none. */
  bytesOf(token: number): Uint8Array {
    const bytes = this.bytes.get(token);
    if (!bytes) throw new HeddleError("bad-argument", `tokenizer: there is no token ${token}`);
    return bytes;
  }

  /** Bytes that are no UTF-8, as a part of a character, become U+FFFD. */
  decode(tokens: Iterable<number>): string {
    const decoder = this.decoder();
    let text = "";
    for (const token of tokens) text += decoder.push(token);
    return text + decoder.end();
  }

  /** Decodes token by token: a character comes with the token that completes it. */
  decoder(): { push(token: number): string; end(): string } {
    const utf8 = new TextDecoder("utf-8", { ignoreBOM: true });
    return { push: (token) => utf8.decode(this.bytesOf(token), { stream: true }), end: () => utf8.decode() };
  }
}

/** Grows by doubling. */
class TokenList {
  private data = new Int32Array(64);
  private length = 0;

  private reserve(count: number): void {
    if (this.length + count <= this.data.length) return;
    const larger = new Int32Array(Math.max(2 * this.data.length, this.length + count));
    larger.set(this.data);
    this.data = larger;
  }

  push(token: number): void {
    this.reserve(1);
    this.data[this.length++] = token;
  }

  append(tokens: Int32Array): void {
    this.reserve(tokens.length);
    for (let i = 0; i < tokens.length; i++) this.data[this.length++] = tokens[i];
  }

  take(): Int32Array {
    return this.data.slice(0, this.length);
  }
}
