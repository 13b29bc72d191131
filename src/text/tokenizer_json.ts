// Hugging Face's tokenizer.json (byte-level BPE) ↔ the parts of a tokenizer.
import { HeddleError } from "../ir/error.ts";
import { CHARACTERS, GPT2_PATTERN } from "./byte_level.ts";
import type { Merge } from "./train_bpe.ts";

export interface TokenizerParts {
  /** Entries, written in the characters that stand for bytes, and their numbers. */
  readonly vocabulary: ReadonlyMap<string, number>;
  readonly merges: readonly Merge[];
  /** Tokens that are found in a text before anything else. */
  readonly special: ReadonlyMap<string, number>;
  /** What merges stay within. */
  readonly pattern: string;
  readonly addPrefixSpace: boolean;
  /** Texts are brought to Unicode's composed form first. */
  readonly isNfc: boolean;
}

const MAX_ID = 2 ** 24;

type Json = Readonly<Record<string, unknown>>;
const isRecord = (value: unknown): value is Json => typeof value === "object" && value !== null && !Array.isArray(value);

export function tokenizerJson({ vocabulary, merges, special, pattern, addPrefixSpace, isNfc }: TokenizerParts): string {
  const entryOfId = new Map([...vocabulary].map(([entry, id]) => [id, entry]));
  const byteLevel = { type: "ByteLevel", add_prefix_space: addPrefixSpace, trim_offsets: true, use_regex: pattern === GPT2_PATTERN };
  const split = { type: "Split", pattern: { Regex: pattern }, behavior: "Isolated", invert: false };
  const json = {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: [...special].map(([content, id]) => ({
      id, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special: true,
    })), // biome-ignore format: a row of the file
    normalizer: isNfc ? { type: "NFC" } : null,
    pre_tokenizer: pattern === GPT2_PATTERN ? byteLevel : { type: "Sequence", pretokenizers: [split, byteLevel] },
    post_processor: null,
    decoder: { type: "ByteLevel", add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: {
      type: "BPE",
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      vocab: Object.fromEntries([...special, ...vocabulary]),
      merges: merges.map(({ left, right }) => `${entryOfId.get(left)} ${entryOfId.get(right)}`), // no entry has a space
    },
  };
  return `${JSON.stringify(json, null, 1)}\n`;
}

/** Throws HeddleError ("bad-input", "unsupported"). Post-processors are not read: they add special tokens, which encode() never does. */
export function parseTokenizerJson(text: string, what: string): TokenizerParts {
  const bad = (why: string) => new HeddleError("bad-input", `${what}: ${why}`);
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new HeddleError("bad-input", `${what}: not a tokenizer.json: not JSON`, { cause });
  }
  if (!isRecord(json) || !isRecord(json.model)) throw bad("not a tokenizer.json: it has no model");
  const { model } = json;
  const other = (why: string) => new HeddleError("unsupported", `${what}: ${why}; byte-level BPE is supported`);
  if (model.type !== undefined && model.type !== "BPE") throw other(`its model is of type ${model.type}`);
  for (const option of ["dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback", "ignore_merges"])
    if (model[option]) throw other(`its model has ${option}`);
  const special = parseSpecial(json.added_tokens, bad);
  const all = parseVocabulary(model.vocab, bad);
  const vocabulary = new Map([...all].filter(([entry]) => !special.has(entry)));
  const missing = CHARACTERS.find((character) => !vocabulary.has(character));
  if (missing !== undefined) throw other(`its vocabulary lacks a byte (${missing})`);
  return { vocabulary, merges: parseMerges(model.merges, vocabulary, bad), special, ...parseSteps(json, other) };
}

type Fail = (why: string) => HeddleError;

const isId = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0 && (value as number) < MAX_ID;

function parseVocabulary(vocab: unknown, bad: Fail): Map<string, number> {
  if (!isRecord(vocab)) throw bad("its vocabulary is not an object");
  const entries = Object.entries(vocab);
  for (const [entry, id] of entries) if (!isId(id)) throw bad(`the number of ${JSON.stringify(entry)} is ${String(id)}`);
  const vocabulary = new Map(entries as [string, number][]); // checked
  if (new Set(vocabulary.values()).size !== vocabulary.size) throw bad("two entries of its vocabulary have one number");
  return vocabulary;
}

function parseSpecial(added: unknown, bad: Fail): Map<string, number> {
  if (added === undefined || added === null) return new Map();
  if (!Array.isArray(added)) throw bad("its added_tokens are not a list");
  return new Map(
    added.map((token: unknown): [string, number] => {
      if (!isRecord(token) || typeof token.content !== "string" || token.content === "" || !isId(token.id))
        throw bad("an added token has no content or no number");
      return [token.content, token.id];
    }),
  );
}

function parseMerges(merges: unknown, vocabulary: ReadonlyMap<string, number>, bad: Fail): Merge[] {
  if (!Array.isArray(merges)) throw bad("its merges are not a list");
  return merges.map((merge: unknown, i) => {
    const [a, b, ...more]: unknown[] = typeof merge === "string" ? merge.split(" ") : Array.isArray(merge) ? merge : [];
    if (typeof a !== "string" || typeof b !== "string" || more.length > 0) throw bad(`merge ${i} is not a pair`);
    const [left, right, id] = [vocabulary.get(a), vocabulary.get(b), vocabulary.get(a + b)];
    if (left === undefined || right === undefined || id === undefined) throw bad(`merge ${i}, ${a} ${b}, is not of the vocabulary`);
    return { left, right, id };
  });
}

function parseSteps(
  { normalizer, pre_tokenizer: before }: Json,
  other: Fail,
): Pick<TokenizerParts, "pattern" | "addPrefixSpace" | "isNfc"> {
  if (normalizer && !(isRecord(normalizer) && normalizer.type === "NFC"))
    throw other(`its normalizer is ${(normalizer as Json).type}, wanted none or NFC`);
  const steps = isRecord(before) && before.type === "Sequence" && Array.isArray(before.pretokenizers) ? before.pretokenizers : [before];
  const byteLevel: unknown = steps.at(-1);
  if (!isRecord(byteLevel) || byteLevel.type !== "ByteLevel") throw other("its pre-tokenizer does not end in ByteLevel");
  const common = { addPrefixSpace: byteLevel.add_prefix_space === true, isNfc: Boolean(normalizer) };
  if (steps.length === 1 && byteLevel.use_regex !== false) return { ...common, pattern: GPT2_PATTERN };
  const [split]: unknown[] = steps;
  if (
    steps.length === 2 &&
    isRecord(split) &&
    split.type === "Split" &&
    split.behavior === "Isolated" &&
    !split.invert &&
    byteLevel.use_regex === false
  )
    if (isRecord(split.pattern) && typeof split.pattern.Regex === "string") return { ...common, pattern: split.pattern.Regex };
  throw other("its pre-tokenizer is neither ByteLevel with its own pattern nor Split by a pattern and ByteLevel");
}
