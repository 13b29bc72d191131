// Ends of processes that use the pool: however the main thread leaves, no thread keeps the process; and inaccessible pages really fault.
import { spawnSync } from "node:child_process";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { machineFacts } from "../../src/devices/machine.ts";

const here = machineFacts().arch === "x64" && machineFacts().platform === "linux";
const root = fileURLToPath(new URL("../..", import.meta.url));
// Below node_modules, so that the bundle finds koffi.
const folder = join(root, "node_modules", ".cache", `heddle-pool-${process.pid}`);

/** A prelude for the children: `start()` opens a pool of two threads whose kernel returns at once. */
const PRELUDE = `
import { LIST_HEADER, RECORD } from "${root}src/devices/x86/driver.ts";
import { allocate, placeCode } from "${root}src/devices/x86/memory.ts";
import { loadNative } from "${root}src/devices/x86/native.ts";
import { acquirePool } from "${root}src/devices/x86/pool.ts";
export const native = await loadNative();
export { allocate, placeCode };
export function start(threads = 2, code = [0xc3]) {
  const pool = acquirePool(native, { threads, spinMicroseconds: 100 });
  const region = placeCode(native, [Uint8Array.from(code)]);
  const list = allocate(native, LIST_HEADER + threads * RECORD, false);
  const words = new BigUint64Array(list.view().buffer);
  words[0] = BigInt(RECORD);
  for (let t = 0; t < threads; t++) words[(LIST_HEADER + t * RECORD) / 8] = BigInt(region.at[0]);
  const job = { list: list.address, from: 0, to: RECORD, isAlone: false };
  return { pool, run: () => pool.run(job), runAsync: () => pool.runAsync(job) };
}
`;

beforeAll(async () => {
  if (!here) return;
  mkdirSync(folder, { recursive: true });
  await build({
    stdin: { contents: PRELUDE, resolveDir: root, loader: "js" },
    bundle: true,
    platform: "node",
    format: "esm",
    external: ["koffi"],
    outfile: join(folder, "prelude.mjs"),
    logLevel: "silent",
  });
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function child(name: string, body: string): { status: number | null; signal: string | null; stdout: string; ms: number } {
  const file = join(folder, `${name}.mjs`);
  writeFileSync(file, `import { start, native, allocate, placeCode } from "./prelude.mjs";\n${body}\n`);
  const started = performance.now();
  const { status, signal, stdout } = spawnSync(process.execPath, [file], { encoding: "utf8", timeout: 15_000 });
  return { status, signal, stdout, ms: performance.now() - started };
}

describe.skipIf(!here)("a process with a pool", () => {
  test.each([
    ["ends by itself after close", "const p = start(); p.run(); p.pool.release(); console.log('done');", 0],
    ["ends by itself without close", "const p = start(); p.run(); console.log('done');", 0],
    [
      "ends by itself with sleeping threads",
      "const p = start(); p.run(); await new Promise((r) => setTimeout(r, 20)); console.log('done');",
      0,
    ],
    ["ends before its threads have started", "const p = start(); p.pool.start(); console.log('done');", 0],
    ["ends by process.exit", "const p = start(3); p.run(); console.log('done'); process.exit(7);", 7],
    ["ends by an exception", "const p = start(); p.run(); console.log('done'); throw new Error('on purpose');", 1],
    [
      "ends by an exception right after close",
      "const p = start(); p.run(); p.pool.release(); console.log('done'); throw new Error('on purpose');",
      1,
    ],
    ["stays alive for an asynchronous run", "const p = start(); await p.runAsync(); console.log('done');", 0],
    ["exits while an asynchronous run is starting", "const p = start(); p.runAsync(); console.log('done'); process.exit(0);", 0],
  ])("%s", (name, body, status) => {
    const result = child(name.replaceAll(" ", "_"), body);
    expect(result).toMatchObject({ status, signal: null, stdout: "done\n" });
    expect(result.ms).toBeLessThan(8000);
  });

  test("opens and closes 30 pools with threads", () => {
    const body = `
      import { readFileSync } from "node:fs";
      const tasks = () => /^Threads:\\s*(\\d+)/m.exec(readFileSync("/proc/self/status", "utf8"))[1];
      const once = async () => { const p = start(); p.run(); p.pool.release(); };
      await once();
      await new Promise((r) => setTimeout(r, 300));
      const before = Number(tasks());
      for (let i = 0; i < 30; i++) await once();
      await new Promise((r) => setTimeout(r, 500));
      console.log(Number(tasks()) - before);`;
    expect(child("many", body)).toMatchObject({ status: 0, stdout: "0\n" });
  });

  test.each([
    ["last byte inside", 8 * 23 - 1, null],
    ["first byte past the end", 8 * 23, "SIGSEGV"],
    ["a page before the start", -4096, "SIGSEGV"],
  ])("guard pages: a store to the %s", (name, offset, signal) => {
    // mov rax,[rdi]; mov byte [rax],1; ret, with the address in the argument array.
    const body = `
      const memory = allocate(native, 8 * 23 - 3, true);
      const args = allocate(native, 64, false);
      new BigUint64Array(args.view().buffer, 0, 1)[0] = BigInt(memory.address + ${offset});
      if (memory.address % 8 !== 0) throw new Error("not aligned");
      memory.view()[0] = 1;
      native.callable(placeCode(native, [Uint8Array.of(0x48, 0x8b, 0x07, 0xc6, 0x00, 0x01, 0xc3)]).at[0])(args.address, 0, 0, 0);
      console.log("stored");`;
    expect(child(name.replaceAll(" ", "_"), body)).toMatchObject({ status: signal ? null : 0, signal, stdout: signal ? "" : "stored\n" });
  });
});
