// Files are written whole or not at all, and leave nothing behind.
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { checkWritable, writeFileAtomic, writeFileAtomicSync } from "../../src/formats/write_file.ts";

const root = mkdtempSync(join(tmpdir(), "heddle-write-"));
afterAll(() => rmSync(root, { recursive: true }));

describe.each([
  ["at once", async (path: string, data: string | Uint8Array) => writeFileAtomicSync(path, data)],
  ["later", writeFileAtomic],
])("writing %s", (name, write) => {
  const folder = join(root, name);
  mkdirSync(folder);
  it("replaces the old content", async () => {
    await write(join(folder, "a"), "old");
    await write(join(folder, "a"), Uint8Array.from([110, 101, 119]));
    expect(readFileSync(join(folder, "a"), "utf8")).toBe("new");
    expect(readdirSync(folder)).toEqual(["a"]);
  });
  it("fails with one line and leaves nothing", async () => {
    mkdirSync(join(folder, "full", "of"), { recursive: true });
    await expect(write(join(folder, "full"), "x")).rejects.toThrow("full: cannot be written");
    await expect(write(join(folder, "none", "b"), "x")).rejects.toThrow("b: cannot be written: its folder does not exist");
    expect(readdirSync(folder).sort()).toEqual(["a", "full"]);
  });
  it("lets the last of many writers win, whole", async () => {
    const texts = Array.from({ length: 10 }, (_, i) => String(i).repeat(10000));
    await Promise.all(texts.map((text) => write(join(folder, "many"), text)));
    expect(texts).toContain(readFileSync(join(folder, "many"), "utf8"));
  });
});

it("says beforehand that a file cannot be written", async () => {
  await checkWritable(join(root, "new"));
  await expect(checkWritable(join(root, "none", "b"))).rejects.toThrow("b: cannot be written: its folder does not exist");
});

it("takes away what it has begun when the process ends", async () => {
  const folder = join(root, "ended");
  mkdirSync(folder);
  const before = process.listeners("exit");
  const written = writeFileAtomic(join(folder, "a"), [new Uint8Array(1e6), new Uint8Array(1e6)]);
  while (readdirSync(folder).length === 0) await new Promise(setImmediate);
  const [atExit] = process.listeners("exit").filter((listener) => !before.includes(listener));
  atExit(0);
  expect(readdirSync(folder)).toEqual([]);
  await expect(written).rejects.toThrow("cannot be written"); // the process went on, here: there is nothing to rename
  expect(process.listeners("exit")).toEqual(before);
});
