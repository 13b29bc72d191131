// JPEG and PNG files of all kinds become RGB pixels.
import { encode } from "fast-png";
import jpeg from "jpeg-js";
import { describe, expect, it } from "vitest";
import { readImage, writePng } from "../../src/formats/image.ts";

const png = (channels: number, depth: 1 | 2 | 4 | 8 | 16, data: number[], width = 2, palette?: number[][]) =>
  encode({ width, height: 1, channels, depth, data: depth === 16 ? Uint16Array.from(data) : Uint8Array.from(data), palette });

describe("pictures", () => {
  it("PNG comes back", async () => {
    const image = { width: 2, height: 2, data: Uint8Array.from([1, 2, 3, 4, 5, 6, 7, 8, 9, 250, 251, 252]) };
    expect(await readImage(await writePng(image))).toEqual(image);
  });
  it.each([
    ["RGB", png(3, 8, [1, 2, 3, 4, 5, 6]), [1, 2, 3, 4, 5, 6]],
    ["RGBA, on white", png(4, 8, [1, 2, 3, 255, 9, 9, 9, 0]), [1, 2, 3, 255, 255, 255]],
    ["grey", png(1, 8, [7, 9]), [7, 7, 7, 9, 9, 9]],
    ["grey with alpha", png(2, 8, [7, 255, 9, 0]), [7, 7, 7, 255, 255, 255]],
    ["16 bits", png(3, 16, [65535, 0, 257, 32768, 128, 129]), [255, 0, 1, 128, 0, 1]],
    ["1 bit", png(1, 1, [0b10100000], 3), [255, 255, 255, 0, 0, 0, 255, 255, 255]],
  ])("PNG: %s", async (_, bytes, pixels) => {
    expect([...(await readImage(bytes)).data]).toEqual(pixels);
  });
  it("JPEG", async () => {
    const grey = { width: 16, height: 8, data: new Uint8Array(16 * 8 * 4).fill(100) };
    const image = await readImage(jpeg.encode(grey, 95).data);
    expect([image.width, image.height, image.data.length]).toEqual([16, 8, 16 * 8 * 3]);
    expect(image.data.every((v) => Math.abs(v - 100) <= 2)).toBe(true);
  });
  it("refuses what is no picture, in one line", async () => {
    await expect(readImage(new TextEncoder().encode("GIF89a"), "cat.gif")).rejects.toThrow("cat.gif: neither a JPEG nor a PNG file");
    await expect(readImage(png(3, 8, [1, 2, 3, 4, 5, 6]).subarray(0, 40), "cut.png")).rejects.toThrow("cut.png: not a valid PNG");
    await expect(readImage(Uint8Array.from([0xff, 0xd8, 0xff, 0xe0, 0, 4]), "cut.jpg")).rejects.toThrow("cut.jpg: not a valid JPEG");
    const huge = png(3, 8, [1, 2, 3, 4, 5, 6]).with(16, 0x7f);
    await expect(readImage(huge, "huge.png")).rejects.toThrow("heddle reads up to 100 million");
  });
});
