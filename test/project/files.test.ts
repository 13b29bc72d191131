// House rules that a program can check: names, opening sentences, lengths, and no way around the type checker.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { readSources, root } from "./sources.ts";

const written = readSources("src", "test", "bench", "examples").filter(({ path }) => !path.endsWith("_pb.ts")); // generated
const product = written.filter(({ path }) => path.startsWith("src/"));

const MAX_LINES = 400;
/** Imports do not count: a formatter spreads them. */
const linesOf = (text: string): number => text.replace(/^import [^;]*;\n/gm, "").split("\n").length - 1;
/** Long because they are tables. */
const TABLES: readonly string[] = [];

const named = (files: readonly { path: string }[]) => files.map(({ path }) => path);

describe("files", () => {
  test("none is called utils", () => {
    expect(named(written).filter((path) => /(?:^|\/)(?:utils?|helpers?|misc|common)(?:\.ts|\/)/.test(path))).toEqual([]);
  });

  test("each opens with a sentence that says what it is", () => {
    expect(named(written.filter(({ text }) => !/^(?:#!.*\n)?\/\/ \S.{15,}\.(?: .*)?\n/.test(text)))).toEqual([]);
  });

  const long = product.filter(({ text }) => linesOf(text) > MAX_LINES);

  test("none is longer than a reader's patience, tables apart", () => {
    expect(long.filter(({ path }) => !TABLES.includes(path)).map(({ path, text }) => `${path}: ${linesOf(text)}`)).toEqual([]);
  });

  test("listed tables are still there and still long", () => {
    expect(TABLES.filter((path) => !named(long).includes(path))).toEqual([]);
  });
});

describe("text", () => {
  /** Code without strings, templates' text and comments: close enough for finding words. */
  const codeOf = (text: string) => text.replace(/\/\*[\s\S]*?\*\/|\/\/.*|"(?:[^"\\\n]|\\.)*"|`(?:[^`\\]|\\.)*`/g, "");

  test("no any", () => {
    expect(named(written.filter(({ text }) => /(?::|<|\bas|,|\|)\s*any\b(?!\s*[(:])/.test(codeOf(text))))).toEqual([]);
  });

  test("no check is switched off", () => {
    const off = /@ts-(?:ignore|nocheck|expect-error)|biome-ignore(?! format:)/;
    expect(named(product.filter(({ text }) => off.test(text)))).toEqual([]);
  });

  test("nothing is left to do", () => {
    expect(named(written.filter(({ path, text }) => path !== "test/project/files.test.ts" && /\b(?:TODO|FIXME|XXX)\b/.test(text)))).toEqual(
      [],
    );
  });

  test("only index.ts and entries of the package re-export", () => {
    const { exports } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { exports: Record<string, { types: string }> }; // ours
    const entries = new Set(Object.values(exports).map(({ types }) => types.replace("./dist/types", "src").replace(".d.ts", ".ts")));
    const mayNot = product.filter(({ path }) => !/(?:^|\/)index\.ts$/.test(path) && !entries.has(path));
    const wrong = mayNot.filter(({ text }) => /^export .*\bfrom "/m.test(text));
    expect(named(wrong)).toEqual([]);
  });
});
