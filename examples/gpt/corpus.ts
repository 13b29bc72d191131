// The King James Bible of Debian's bible-kjv → chapters → tokens to learn from and tokens to be judged by.
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { HeddleError } from "../../src/ir/error.ts";
import { BpeTokenizer } from "../../src/text/index.ts";

/** Stands before each chapter. */
export const CHAPTER = "<|chapter|>";
/** Of ten chapters the last is held out. */
const EVERY = 10;

export interface Corpus {
  readonly tokenizer: BpeTokenizer;
  readonly train: Int32Array;
  readonly valid: Int32Array;
  /** UTF-8 bytes of the text that `valid` stands for: losses of different tokenizers are compared by the byte. */
  readonly validBytes: number;
}

/** The text as the program prints it, a verse a line: "Ge1:1 In the beginning …". */
export async function readBible(): Promise<string> {
  const read = promisify(execFile)("bible", ["-f", "gen1:1-rev22:21"], { maxBuffer: 2 ** 26 });
  const { stdout } = await read.catch((cause) => {
    throw new HeddleError("missing", "the program bible cannot be run; apt-get install bible-kjv", { cause });
  });
  return stdout;
}

/** Verses of a chapter as lines, without their numbers. */
export function chaptersOf(text: string): string[] {
  const chapters = new Map<string, string>();
  for (const line of text.split("\n")) {
    const [, chapter, verse] = /^(\w+):\d+ (.*)$/.exec(line) ?? [];
    if (chapter !== undefined) chapters.set(chapter, `${chapters.get(chapter) ?? ""}${verse}\n`);
  }
  return [...chapters.values()];
}

/** The tokenizer learns from the chapters that the network learns from. */
export function corpusOf(chapters: readonly string[], vocabSize: number): Corpus {
  const held = (_: string, i: number) => i % EVERY === EVERY - 1;
  const [learned, judged] = [chapters.filter((c, i) => !held(c, i)), chapters.filter(held)];
  if (judged.length === 0)
    throw new HeddleError("bad-input", `corpus: ${chapters.length} chapters, wanted ${EVERY} or more, a verse a line as "Ge1:1 In the …"`);
  const tokenizer = BpeTokenizer.train(learned, { vocabSize, special: [CHAPTER] });
  const encode = (texts: readonly string[]) => tokenizer.encode(texts.map((text) => CHAPTER + text).join(""));
  return { tokenizer, train: encode(learned), valid: encode(judged), validBytes: Buffer.byteLength(judged.join("")) };
}
