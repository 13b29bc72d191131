// Which names the bundle for browsers shortens: of members that nothing but its own classes has.
import { expect, test } from "vitest";

interface Shorten {
  shortNames(texts: ReadonlyMap<string, string>, isPublic: (text: string, place: number) => boolean): Promise<ReadonlyMap<string, string>>;
}
/** The project's scripts are JavaScript: their types are told here. */
const { shortNames } = (await import(new URL("../../scripts/shorten.mjs", import.meta.url).href)) as Shorten;

const CLASS = "class Box { constructor() { this.lidCount = 1; } openLid() { return this.lidCount; } get isShut() { return false; } }";

const shortened = async (code: string, isPublic = false): Promise<readonly string[]> => {
  const texts = new Map([
    ["class.js", CLASS],
    ["code.js", code],
  ]);
  return [...(await shortNames(texts, (text) => isPublic && text === CLASS)).keys()].sort();
};

const ALL = ["isShut", "lidCount", "openLid"];

test.each([
  ["reads of them", "box.openLid() + box.lidCount", ALL],
  ["patterns", "const { openLid } = box", ALL],
  ["a text", "box['openLid']", ["isShut", "lidCount"]],
  ["a template", "run(`box.openLid() of $" + "{which} lidCount`)", ["isShut"]],
  ["a pattern of texts", "/openLid/.test(text)", ["isShut", "lidCount"]],
  ["a key of a plain object", "const box = { lidCount: 1, openLid() {} }", ["isShut"]],
  ["a variable that becomes a key", "const box = { lidCount }", ["isShut", "openLid"]],
  ["a class whose member JavaScript or a browser has as well", "class List { push() {} createBuffer() {} dispatchWorkgroups() {} }", ALL],
])("of a class's members, and %s", async (_, code, names) => expect(await shortened(code)).toEqual(names));

test("not of classes that callers are handed, though others have members of the same names", async () =>
  expect(await shortened("class Other { openLid() {} ownBox() { return this.innerBox; } }", true)).toEqual(["innerBox", "ownBox"]));

test("short names are new ones, the shortest for the most frequent", async () => {
  const texts = new Map([["class.js", `${CLASS} box.b(); const { c } = box; box.openLid(); box.openLid();`]]);
  const names = await shortNames(texts, () => false);
  const given = [...names.values()];
  expect(new Set(given).size).toBe(ALL.length);
  expect(given).not.toContain("b");
  expect(given).not.toContain("c");
  expect([...names.keys()][0]).toBe("openLid");
});
