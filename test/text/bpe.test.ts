// Any text comes back from its tokens, vocabularies are those that Hugging Face's library learns, and its files are read and written.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, describe, expect, test } from "vitest";
import { bytesOfEntry, CHARACTERS, entryOf, splitWords } from "../../src/text/byte_level.ts";
import { BpeTokenizer } from "../../src/text/index.ts";

const folder = mkdtempSync(join(tmpdir(), "heddle-text-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const TEXT = "The cat's hat, the cats' hats: 12 cats sat.\n\n  It's that hat that the cat sat on; naïve café – naïve cafés!\n";
const LLAMA3 =
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
const options = { vocabSize: 300, special: ["<|end|>"] };

describe("training", () => {
  /** Both from tokenizers 0.23.2: BpeTrainer(vocab_size=300, min_frequency=2, special_tokens=["<|end|>"], initial_alphabet=ByteLevel.alphabet()). */
  const merges =
    "a t,Ġ c,h at,Ġ t,Ġc at,h e,Ġ hat,' s,a f,a Ã,n aÃ,s at,v e,¯ ve,Ã ©,Ġ naÃ,Ġ sat,Ġc af,Ġt hat,Ġt he,Ġcat s,ĠnaÃ ¯ve,Ġcaf Ã©";
  const tokens = [
    41, 52, 7, 51, 221, 276, 127, 255, 67, 257, 0, 127, 228, 172, 120, 124, 267, 270, 160, 223, 223, 263, 83, 199, 221, 17, 18, 19, 20, 21,
  ]; // biome-ignore format: a table

  test.each([undefined, LLAMA3])("gives the merges and tokens of Hugging Face's (pattern %#)", (pattern) => {
    const bpe = BpeTokenizer.train(TEXT, { ...options, pattern });
    expect(JSON.parse(bpe.toJson()).model.merges.join()).toBe(merges);
    expect(bpe.vocabSize).toBe(280); // no more pairs occur twice
    expect([...bpe.encode("IT'S  the\u00a0cat<|end|>\x85\ufeffnaïve\u3000 hats\n 12345")]).toEqual(tokens);
  });

  test("stops at the size that is asked for, or when pairs are too rare", () => {
    expect(BpeTokenizer.train(TEXT, { vocabSize: 256 }).vocabSize).toBe(256);
    expect(BpeTokenizer.train(TEXT, { vocabSize: 260 }).vocabSize).toBe(260);
    expect(BpeTokenizer.train(TEXT, { vocabSize: 1000, minFrequency: 5 }).vocabSize).toBe(259);
    expect(BpeTokenizer.train("", { vocabSize: 1000 }).vocabSize).toBe(256);
    expect(() => BpeTokenizer.train(TEXT, { ...options, vocabSize: 256 })).toThrow("vocabSize 256, wanted 257 (bytes and special tokens)");
    expect(() => BpeTokenizer.train(TEXT, { vocabSize: 300, pattern: "(" })).toThrow('the pattern "(" is not understood');
  });

  test("of several texts, and of long repetitions", () => {
    const parts = BpeTokenizer.train([TEXT, TEXT.repeat(2)], options);
    expect(parts.toJson()).toBe(BpeTokenizer.train(TEXT.repeat(3), options).toJson());
    const dashes = BpeTokenizer.train("-".repeat(1 << 12), { vocabSize: 300, minFrequency: 1 });
    expect(dashes.encode("-".repeat(1 << 12))).toHaveLength(1);
    expect(dashes.encode("-".repeat(100_001))).toHaveLength(29); // 24 of 4096, and 1024 + 512 + 128 + 32 + 1
  });
});

describe("encoding", () => {
  const bpe = BpeTokenizer.train(TEXT, options);

  test("any text comes back", () => {
    const text = fc.oneof(
      fc.string({ unit: "binary", maxLength: 60 }),
      fc.string({ unit: "grapheme", maxLength: 60 }),
      fc.array(fc.constantFrom(..."Thecat's hat <|end|>\n\t\u0085\ufeff\ud83d\ude00é\0"), { maxLength: 60 }).map((parts) => parts.join("")),
    );
    fc.assert(
      fc.property(text, (s) => {
        const tokens = bpe.encode(s);
        const back = bpe.decode(tokens);
        expect(back).toBe(new TextDecoder("utf-8", { ignoreBOM: true }).decode(new TextEncoder().encode(s))); // lone surrogates aside, s itself
        const decoder = bpe.decoder();
        expect([...tokens].map((token) => decoder.push(token)).join("") + decoder.end()).toBe(back);
        expect(bpe.encode(s)).toEqual(tokens); // out of the cache
      }),
      { numRuns: 1000 },
    );
  });

  test("special tokens stand for themselves, the longest first", () => {
    const two = BpeTokenizer.train(TEXT, { vocabSize: 300, special: ["<|a|>", "<|a|>b", "[.*]"] });
    expect([...two.encode("<|a|><|a|>b[.*]")]).toEqual([0, 1, 2]);
    expect(two.decode([1, 2])).toBe("<|a|>b[.*]");
    expect([two.special("[.*]"), () => two.special("x")]).toEqual([2, expect.any(Function)]);
    expect(() => two.special("x")).toThrow("no special token x (<|a|>,<|a|>b,[.*])");
    expect([...bpe.encode("<|end|")]).not.toContain(0);
  });

  test("a character comes with the token that completes it; parts become U+FFFD", () => {
    const tokens = [...bpe.encode("–")];
    expect(tokens.length).toBe(3);
    const decoder = bpe.decoder();
    expect(tokens.map((token) => decoder.push(token))).toEqual(["", "", "–"]);
    expect(bpe.decode(tokens.slice(0, 2))).toBe("\ufffd");
    expect(() => bpe.decode([999])).toThrow("there is no token 999");
  });

  test("merging by a heap is merging by rank, left to right", () => {
    const { model } = JSON.parse(bpe.toJson()) as { model: { merges: string[] } };
    const plain = (word: string): string[] => {
      let symbols = Array.from(new TextEncoder().encode(word), (byte) => CHARACTERS[byte]);
      for (const merge of model.merges) {
        const [a, b] = merge.split(" ");
        const out: string[] = [];
        for (let i = 0; i < symbols.length; i++) {
          const isPair = symbols[i] === a && symbols[i + 1] === b;
          out.push(isPair ? a + b : symbols[i]);
          if (isPair) i++;
        }
        symbols = out;
      }
      return symbols;
    };
    const word = fc.array(fc.constantFrom(..."thesa ïécatcav"), { minLength: 1, maxLength: 30 }).map((letters) => letters.join(""));
    fc.assert(
      fc.property(word, (s) => {
        const words = [...splitWords(s, /'s| ?\p{L}+|\s+(?!\S)|\s+/gu)];
        expect([...bpe.encode(s)].map((token) => entryOf(bpe.bytesOf(token)))).toEqual(words.flatMap(plain));
      }),
      { numRuns: 500 },
    );
  });

  test("bytes and their characters", () => {
    expect(new Set(CHARACTERS).size).toBe(256);
    expect(CHARACTERS[32] + CHARACTERS[10] + CHARACTERS[255]).toBe("ĠĊÿ");
    const all = Uint8Array.from({ length: 256 }, (_, byte) => byte);
    expect(bytesOfEntry(entryOf(all))).toEqual(all);
    expect(bytesOfEntry("a b")).toBeUndefined();
  });
});

describe("tokenizer.json", () => {
  test("comes back, with other patterns too", async () => {
    for (const pattern of [undefined, LLAMA3]) {
      const bpe = BpeTokenizer.train(TEXT, { ...options, pattern });
      const path = join(folder, "tokenizer.json");
      await bpe.save(path);
      const loaded = await BpeTokenizer.load(path);
      expect(loaded.toJson()).toBe(bpe.toJson());
      expect(loaded.encode(TEXT)).toEqual(bpe.encode(TEXT));
    }
    await expect(BpeTokenizer.load(join(folder, "none"))).rejects.toThrow("none: cannot be read");
  });

  interface File {
    model: Record<string, unknown> & { vocab: Record<string, unknown> };
    [part: string]: unknown;
  }
  const changed = (change: (json: File) => void): string => {
    const json = JSON.parse(BpeTokenizer.train(TEXT, options).toJson()) as File;
    change(json);
    return JSON.stringify(json);
  };

  test("merges as pairs, a space in front, and composed forms", () => {
    const pairs = BpeTokenizer.fromJson(
      changed((json) => {
        json.model.merges = (json.model.merges as string[]).map((merge) => merge.split(" "));
      }),
    );
    expect(pairs.encode(TEXT)).toEqual(BpeTokenizer.train(TEXT, options).encode(TEXT));
    const other = BpeTokenizer.fromJson(
      changed((json) => {
        json.pre_tokenizer = { type: "ByteLevel", add_prefix_space: true };
        json.normalizer = { type: "NFC" };
      }),
    );
    expect(other.decode(other.encode("cafe\u0301"))).toBe(" café");
    expect(BpeTokenizer.fromJson(other.toJson()).toJson()).toBe(other.toJson());
  });

  test.each<[string, string | ((json: File) => void)]>([
    ["x: not a tokenizer.json: not JSON", "{"],
    ["x: not a tokenizer.json: it has no model", "[]"],
    ["x: its model is of type Unigram; byte-level BPE is supported", (json) => (json.model.type = "Unigram")],
    ["x: its model has byte_fallback", (json) => (json.model.byte_fallback = true)],
    ["x: its vocabulary is not an object", (json) => (json.model.vocab = [] as never)],
    ['x: the number of "a" is -1', (json) => (json.model.vocab.a = -1)],
    ['x: the number of "a" is 16777216', (json) => (json.model.vocab.a = 2 ** 24)],
    ["x: two entries of its vocabulary have one number", (json) => (json.model.vocab.a = json.model.vocab.b)],
    ["x: its vocabulary lacks a byte (q)", (json) => delete json.model.vocab.q],
    ["x: its merges are not a list", (json) => (json.model.merges = {})],
    ["x: merge 0 is not a pair", (json) => (json.model.merges = ["a b c"])],
    ["x: merge 0 is not a pair", (json) => (json.model.merges = [3])],
    ["x: merge 0, q q, is not of the vocabulary", (json) => (json.model.merges = ["q q"])],
    ["x: its added_tokens are not a list", (json) => (json.added_tokens = 1)],
    ["x: an added token has no content or no number", (json) => (json.added_tokens = [{ id: 1 }])],
    ["x: its normalizer is Lowercase, wanted none or NFC", (json) => (json.normalizer = { type: "Lowercase" })],
    ["x: its pre-tokenizer does not end in ByteLevel", (json) => (json.pre_tokenizer = { type: "Whitespace" })],
    ["x: its pre-tokenizer is neither ByteLevel", (json) => (json.pre_tokenizer = { type: "ByteLevel", use_regex: false })],
  ])("refuses: %s", (message, file) => {
    expect(() => BpeTokenizer.fromJson(typeof file === "string" ? file : changed(file), "x")).toThrow(message);
  });
});
