// PP-OCR's recognition network on rendered lines: batches of them as its inputs, and how many characters it reads right.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Batch } from "../../src/compress/prune/index.ts";
import { loadModel } from "../../src/index.ts";
import { decodeCtc, parseCharacters } from "../ocr/ctc.ts";
import { LINE_HEIGHT } from "../ocr/recognize.ts";
import { SIGNED, toTensor } from "../ocr/resize.ts";
import { renderLine, type TextLine } from "./text_lines.ts";
import type { Font } from "./true_type.ts";

export const WIDTH = 320;
/** What the network calls its input. */
const INPUT = "x";

/** Lines number `first` and the `count - 1` after it. */
export const renderLines = (fonts: readonly Font[], first: number, count: number): TextLine[] =>
  Array.from({ length: count }, (_, i) => renderLine(fonts, first + i));

/** x (lines, 3, 48, 320). */
export function batchOf(lines: readonly TextLine[]): Batch {
  const size = 3 * LINE_HEIGHT * WIDTH;
  const data = new Float32Array(lines.length * size);
  for (const [i, { image }] of lines.entries()) {
    const used = Math.min(WIDTH, Math.ceil((LINE_HEIGHT * image.width) / image.height));
    data.set(toTensor(image, used, LINE_HEIGHT, SIGNED, WIDTH).data, i * size);
  }
  return { [INPUT]: { dtype: "f32", shape: [lines.length, 3, LINE_HEIGHT, WIDTH], data } };
}

/** Letters to put in, take out or change to turn one text into another. */
export function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) next.push(Math.min(row[j] + 1, next[j - 1] + 1, row[j - 1] + Number(a[i - 1] !== b[j - 1])));
    row = next;
  }
  return row[b.length];
}

/** The part of the characters that is read right: 1 − edit distance / length, of all lines together. */
export async function characterAccuracy(model: Uint8Array, folder: string, lines: readonly TextLine[]): Promise<number> {
  const characters = parseCharacters(await readFile(join(folder, "ppocr_keys_v1.txt"), "utf8"));
  using network = await loadModel(model, { cache: false });
  let [wrong, total] = [0, 0];
  for (const line of lines) {
    const [output] = Object.values(await network.run(batchOf([line])));
    const { text } = decodeCtc({ shape: output.shape, data: output.data as Float32Array }, characters); // the network's output is f32
    wrong += editDistance(text, line.text);
    total += line.text.length;
  }
  return 1 - wrong / total;
}
