// One bound for all that is kept between processes: what was used longest ago goes first, of whatever kind.
import { existsSync, mkdirSync, mkdtempSync, rmSync, statSync, truncateSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeEach, expect, test, vi } from "vitest";
import { clearFolder, keptFiles, MOST_BYTES, removeOldest } from "../../src/devices/cache_folder.ts";

const base = mkdtempSync(join(tmpdir(), "heddle-cache-folder-"));
afterAll(() => rmSync(base, { recursive: true, force: true }));
let root: string;
beforeEach(() => {
  vi.resetModules(); // a process looks at its first file
  root = mkdtempSync(join(base, "cache-"));
  vi.stubEnv("HEDDLE_CACHE", root);
});

/** Two of them are too much. */
const LARGE = MOST_BYTES / 2 + 1;

/** A file of holes, last used so many seconds ago. */
function put(name: string, bytes: number, secondsAgo: number): string {
  const path = join(root, name);
  mkdirSync(join(path, ".."), { recursive: true, mode: 0o700 });
  writeFileSync(path, "");
  truncateSync(path, bytes);
  const time = new Date(Date.now() - 1000 * secondsAgo);
  utimesSync(path, time, time);
  return path;
}

test("programs, machine code and plans share one bound", async () => {
  const [program, cubin, plan, unfinished] = [put("a.heddle", 400, 3), put("cubin/b.cubin", 400, 2), put("plan/c.plan", 400, 1), put("plan/d.plan.tmp", 0, 9e6)]; // biome-ignore format: one idea
  const foreign = put("notes.txt", 4000, 9e6);
  await removeOldest(root, 1000);
  expect([program, cubin, plan, unfinished, foreign].map(existsSync)).toEqual([false, true, true, false, true]);
  expect((await keptFiles(root)).map(({ kind, bytes }) => [kind, bytes])).toEqual([["cubin", 400], ["plan", 400]]); // biome-ignore format: one idea
  expect(await clearFolder(root)).toBe(800);
  expect(await keptFiles(root)).toEqual([]);
  expect(existsSync(foreign)).toBe(true);
});

test("reading is using", async () => {
  const { keep, readKept } = await import("../../src/devices/cuda/kept.ts");
  const first = Uint8Array.of(1, 2, 3);
  keep("plan", "first", first);
  const [{ path }] = await keptFiles(root);
  utimesSync(path, new Date(0), new Date(0));
  expect(readKept("plan", "first")).toEqual(Buffer.from(first));
  expect(Date.now() - statSync(path).mtimeMs).toBeLessThan(60_000);
});

test("a process looks at its first file whether there is too much", async () => {
  const [old, young] = [put("cubin/old.cubin", LARGE, 2000), put("young.heddle", LARGE, 1000)];
  const { keep, readKept } = await import("../../src/devices/cuda/kept.ts");
  keep("plan", "new", Uint8Array.of(7));
  await expect.poll(() => existsSync(old)).toBe(false);
  expect(existsSync(young)).toBe(true);
  expect(readKept("plan", "new")).toEqual(Buffer.of(7));
});
