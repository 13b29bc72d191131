// What the networks are given: sizes, scaling, normalisation, padding, and pictures turned upright.
import { describe, expect, test } from "vitest";
import { detectSize } from "../../examples/ocr/detect.ts";
import { exifOrientation, upright } from "../../examples/ocr/exif.ts";
import { recognizeWidth } from "../../examples/ocr/recognize.ts";
import { IMAGENET, SIGNED, toTensor } from "../../examples/ocr/resize.ts";
import type { Image } from "../../src/formats/image.ts";

describe("toTensor", () => {
  const pixel: Image = { width: 1, height: 1, data: Uint8Array.of(255, 128, 0) };

  test("gives blue, green, red, each normalised", () => {
    const { shape, data } = toTensor(pixel, 1, 1, IMAGENET);
    expect(shape).toEqual([1, 3, 1, 1]);
    const wanted = [(0 - 0.485) / 0.229, (128 / 255 - 0.456) / 0.224, (1 - 0.406) / 0.225];
    for (const [i, value] of wanted.entries()) expect(data[i]).toBeCloseTo(value, 5);
  });

  test("pads with zeros on the right", () => {
    const { shape, data } = toTensor(pixel, 2, 2, SIGNED, 4);
    expect(shape).toEqual([1, 3, 2, 4]);
    expect(Array.from(data.subarray(0, 8))).toEqual([-1, -1, 0, 0, -1, -1, 0, 0]);
  });

  test("interpolates between pixel centres, and repeats the outermost", () => {
    const ramp: Image = { width: 2, height: 1, data: Uint8Array.of(0, 0, 0, 255, 255, 255) };
    const values = Array.from(toTensor(ramp, 4, 1, SIGNED).data.subarray(0, 4));
    for (const [i, value] of [-1, -0.5, 0.5, 1].entries()) expect(values[i]).toBeCloseTo(value);
  });

  test("at the picture's own size changes no pixel", () => {
    const image: Image = { width: 5, height: 3, data: Uint8Array.from({ length: 45 }, (_, i) => (i * 37) % 256) };
    const { data } = toTensor(image, 5, 3, SIGNED);
    for (let i = 0; i < 15; i++) expect(data[i]).toBeCloseTo((image.data[i * 3 + 2] / 255 - 0.5) / 0.5);
  });
});

test.each([
  [1088, 1344, [768, 960]],
  [500, 300, [512, 288]],
  [8, 5000, [32, 960]],
])("detection of %i×%i pixels", (width, height, wanted) => {
  expect(detectSize({ width, height }, 960)).toEqual(wanted);
});

test.each([
  [100, 48, { used: 100, padded: 320 }],
  [321, 48, { used: 321, padded: 384 }],
  [1000, 24, { used: 2000, padded: 2048 }],
  [9000, 48, { used: 3200, padded: 3200 }],
  [1, 900, { used: 1, padded: 320 }],
])("recognition of a line of %i×%i pixels", (width, height, wanted) => {
  expect(recognizeWidth({ width, height })).toEqual(wanted);
});

/** A JPEG that is only its header, with the orientation in either byte order. */
function jpegHeader(orientation: number, isLittle: boolean): Uint8Array {
  const bytes = new Uint8Array(64);
  const view = new DataView(bytes.buffer);
  bytes.set([0xff, 0xd8, 0xff, 0xe1, 0, 60, 0x45, 0x78, 0x69, 0x66, 0, 0]);
  const tiff = 12;
  bytes.set(isLittle ? [0x49, 0x49] : [0x4d, 0x4d], tiff);
  view.setUint16(tiff + 2, 42, isLittle);
  view.setUint32(tiff + 4, 8, isLittle);
  view.setUint16(tiff + 8, 1, isLittle);
  view.setUint16(tiff + 10, 0x0112, isLittle);
  view.setUint16(tiff + 12, 3, isLittle);
  view.setUint32(tiff + 14, 1, isLittle);
  view.setUint16(tiff + 18, orientation, isLittle);
  return bytes;
}

describe("orientation of the camera", () => {
  test("is read in both byte orders, and is upright where it is absent, damaged or cut off", () => {
    for (let o = 1; o <= 8; o++) for (const isLittle of [true, false]) expect(exifOrientation(jpegHeader(o, isLittle))).toBe(o);
    for (let cut = 0; cut < 32; cut++) expect(exifOrientation(jpegHeader(6, true).subarray(0, cut))).toBeLessThanOrEqual(6);
    expect(exifOrientation(jpegHeader(77, false))).toBe(1);
    expect(exifOrientation(Uint8Array.of(0x89, 0x50, 0x4e, 0x47))).toBe(1);
  });

  // EXIF 2.32, tag 0x0112: where row 0 and column 0 of the stored picture are seen. Stored: a b c / d e f.
  test.each([
    [1, "abc def"],
    [2, "cba fed"],
    [3, "fed cba"],
    [4, "def abc"],
    [5, "ad be cf"],
    [6, "da eb fc"],
    [7, "fc eb da"],
    [8, "cf be ad"],
  ])("%i is undone", (orientation, wanted) => {
    const stored: Image = { width: 3, height: 2, data: Uint8Array.from("aaabbbcccdddeeefff", (c) => c.charCodeAt(0)) };
    const { width, height, data } = upright(stored, orientation);
    const rows = Array.from({ length: height }, (_, y) =>
      Array.from({ length: width }, (_, x) => String.fromCharCode(data[(y * width + x) * 3])).join(""),
    );
    expect(rows.join(" ")).toBe(wanted);
  });
});
