// The page in a real browser: a dropped model on each device against Node, the reading of a picture, and what goes wrong as one line.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { readPhotograph } from "../../examples/ocr/image.ts";
import { randomInputs } from "../../src/cli/random.ts";
import { type Image, writePng } from "../../src/formats/image.ts";
import { exportOnnx } from "../../src/formats/onnx/export.ts";
import { loadModel } from "../../src/index.ts";
import { apply } from "../../src/ir/graph.ts";
import { OPS } from "../../src/ops/index.ts";
import { input } from "../../src/ops/source.ts";
import { root } from "../bundle.ts";
import { classifierGraph } from "../cli/sample_models.ts";
import { buildPage, openBrowser, openPage, servePage, settled, textOf, whyNoBrowser } from "./browser.ts";

/** Float32 sums in another order, and six digits printed. */
const TOLERANCE = 1e-5;

function crop({ width, data }: Image, left: number, top: number, [w, h]: readonly [number, number]): Image {
  const rows = Array.from({ length: h }, (_, y) => data.subarray(((top + y) * width + left) * 3, ((top + y) * width + left + w) * 3));
  return { width: w, height: h, data: new Uint8Array(rows.flatMap((row) => [...row])) };
}

/** The head of the receipt: three lines. */
const readHead = async (): Promise<Image> => crop(await readPhotograph(join(root, "examples/ocr/receipt.jpg")), 230, 80, [640, 192]);

async function expectedRow(model: Uint8Array): Promise<number[]> {
  const opened = await loadModel(model, { cache: false });
  const inputs = randomInputs([{ name: "x", dtype: "f32", shape: [1, 3, 12, 16] }], 1);
  const { y } = await opened.run(inputs);
  opened.dispose();
  return Array.from(y.data as Float32Array);
}

/** Of operators that pages load where a network has them. */
function rareModel(): Uint8Array {
  const x = input("x", { dtype: "f32", shape: [1, 3, 12, 16] });
  const [seen] = apply(OPS.get("Attention")!, [x, x, x], {}, "attention"); // both are ONNX's
  const [value] = apply(OPS.get("Einsum")!, [seen], { equation: "nchw->nc" }, "sums");
  return exportOnnx({ inputs: [x], outputs: [{ name: "y", value }] });
}

/** As a reader drops it: a drop event with a file. */
async function drop(page: Page, name: string, bytes: Uint8Array): Promise<void> {
  const transfer = await page.evaluateHandle(
    ([fileName, content]) => {
      const given = new DataTransfer();
      given.items.add(new File([new Uint8Array(content)], fileName));
      return given;
    },
    [name, [...bytes]] as const,
  );
  await page.dispatchEvent("#drop", "drop", { dataTransfer: transfer });
}

const outputsOf = async (page: Page): Promise<number[]> =>
  (await textOf(page.locator("#outputs tbody td:nth-child(3)"))).split(" ").map(Number);

function expectClose(got: readonly number[], wanted: readonly number[]): void {
  expect(got.length).toBe(wanted.length);
  for (const [i, v] of got.entries()) expect(Math.abs(v - wanted[i])).toBeLessThan(TOLERANCE);
}

describe.skipIf(whyNoBrowser)(`the page in Chromium${whyNoBrowser ? `: ${whyNoBrowser}` : ""}`, () => {
  let folder: string;
  let browser: Browser;
  let served: Awaited<ReturnType<typeof servePage>>;
  const model = exportOnnx(classifierGraph());
  let wanted: number[];

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), "heddle-page-"));
    [browser, wanted] = await Promise.all([openBrowser(), expectedRow(model), buildPage(folder)]);
    served = await servePage(folder);
  }, 120_000); // bundling takes half a minute where others work too
  afterAll(async () => {
    await browser?.close();
    served?.close();
    rmSync(folder, { recursive: true, force: true });
  });

  test("a dropped model gives Node's results on one thread, on several and on WebGPU, with times and a roofline", async () => {
    const { page, complaints } = await openPage(browser, served.url);
    await drop(page, "classifier.onnx", model);
    expect(await settled(page)).toBe("");
    for (const device of ["wasm1", "wasm", "webgpu"]) {
      if (!(await page.isChecked(`#device-${device}`))) await page.check(`#device-${device}`);
      expect(await settled(page), device).toBe("");
      await page.locator("#roofline").waitFor();
      expectClose(await outputsOf(page), wanted);
      expect(await page.locator("#times rect").count()).toBeGreaterThan(1);
      expect(await page.locator("#roofline circle").count()).toBeGreaterThan(0); // steps below the clock's resolution have no rate
    }
    await expect.poll(() => textOf(page.locator("h2").first())).toContain("WebGPU");
    expect(complaints).toEqual([]);
    await page.close();
  });

  test("operators that few networks have are fetched when a network has them", async () => {
    const { page, complaints } = await openPage(browser, served.url);
    const rarePieces = (): Promise<number> =>
      page.evaluate(() => performance.getEntriesByType("resource").filter(({ name }) => /rare-\w+\.js$/.test(name)).length);
    await drop(page, "classifier.onnx", model);
    expect(await settled(page)).toBe("");
    expect(await rarePieces()).toBe(0);
    await drop(page, "rare.onnx", rareModel());
    expect(await settled(page)).toBe("");
    expect(await rarePieces()).toBe(1);
    const wantedSums = await expectedRow(rareModel());
    const got = await outputsOf(page);
    expect(got.length).toBe(wantedSums.length);
    for (const [i, v] of got.entries()) expect(v / wantedSums[i]).toBeCloseTo(1, 4);
    expect(complaints).toEqual([]);
    await page.close();
  });

  test("the keyboard alone picks a device, which runs what is shown again", async () => {
    const { page, complaints } = await openPage(browser, served.url);
    await page.setInputFiles("#file", { name: "classifier.onnx", mimeType: "", buffer: Buffer.from(model) });
    expect(await settled(page)).toBe("");
    await page.keyboard.press("Tab");
    await page.focus("#device-wasm");
    await page.keyboard.press("ArrowUp");
    expect(await settled(page)).toBe("");
    await expect.poll(() => textOf(page.locator("h2").first())).toBe("classifier.onnx on WebAssembly, 1 thread");
    expect(complaints).toEqual([]);
    await page.close();
  });

  test("a picture is read", async () => {
    const { page, complaints } = await openPage(browser, served.url);
    const picture = join(folder, "head.png");
    writeFileSync(picture, await writePng(await readHead()));
    await page.setInputFiles("#file", picture);
    expect(await settled(page)).toBe("");
    const lines = await page.locator("#lines tbody td:nth-child(2)").allTextContents();
    const printed = JSON.parse(readFileSync(join(root, "examples/ocr/expected.json"), "utf8")) as { text: string }[];
    const withoutSpaces = (texts: readonly string[]): string[] => texts.map((text) => text.replaceAll(" ", "")); // the network loses some
    expect(withoutSpaces(lines)).toEqual(withoutSpaces(printed.slice(0, 3).map(({ text }) => text)));
    expect(await page.locator("#result canvas").count()).toBe(1);
    expect(complaints).toEqual([]);
    await page.close();
  });

  test("what is no model, and a network that is cut short, give one line each", async () => {
    const { page, complaints } = await openPage(browser, served.url);
    await drop(page, "notes.onnx", new TextEncoder().encode("these are notes"));
    expect(await settled(page)).toMatch(/^model: not a valid ONNX file[^\n]*$/);
    await drop(page, "cut.onnx", model.subarray(0, model.length >> 1));
    expect(await settled(page)).toMatch(/^model: [^\n]+$/);
    await drop(page, "classifier.onnx", model);
    expect(await settled(page)).toBe("");
    expectClose(await outputsOf(page), wanted);
    expect(complaints).toEqual([]);
    await page.close();
  });

  test("without the headers for shared memory: one thread, and the page says why", async () => {
    const plain = await servePage(folder, false);
    const { page, complaints } = await openPage(browser, plain.url);
    expect(await page.isDisabled("#device-wasm")).toBe(true);
    expect(await textOf(page.locator("#devices"))).toContain("without COOP and COEP headers");
    await drop(page, "classifier.onnx", model);
    expect(await settled(page)).toBe("");
    expectClose(await outputsOf(page), wanted);
    expect(complaints).toEqual([]);
    await page.close();
    plain.close();
  });
});
