// Finds how a camera was held in a JPEG's EXIF header and turns the picture upright.
import type { Image } from "../../src/formats/image.ts";

const ORIENTATION_TAG = 0x0112;

/** EXIF orientation 1–8 of a JPEG; 1 (upright) when it has none, the header is damaged, or the file is of another kind. */
export function exifOrientation(jpeg: Uint8Array): number {
  if (jpeg[0] !== 0xff || jpeg[1] !== 0xd8) return 1;
  const view = new DataView(jpeg.buffer, jpeg.byteOffset, jpeg.byteLength);
  let at = 2;
  while (at + 4 <= view.byteLength && view.getUint8(at) === 0xff) {
    const marker = view.getUint8(at + 1);
    const length = view.getUint16(at + 2);
    if (marker === 0xda || length < 2) break; // pixels begin: no header follows
    const end = Math.min(view.byteLength, at + 2 + length);
    if (marker === 0xe1 && end - at > 18 && view.getUint32(at + 4) === 0x45786966) {
      return orientationInTiff(new DataView(jpeg.buffer, jpeg.byteOffset + at + 10, end - at - 10));
    }
    at += 2 + length;
  }
  return 1;
}

function orientationInTiff(tiff: DataView): number {
  const little = tiff.getUint16(0) === 0x4949;
  const directory = tiff.getUint32(4, little);
  if (directory + 2 > tiff.byteLength) return 1;
  const count = tiff.getUint16(directory, little);
  for (let i = 0; i < count; i++) {
    const entry = directory + 2 + i * 12;
    if (entry + 12 > tiff.byteLength) return 1;
    if (tiff.getUint16(entry, little) !== ORIENTATION_TAG) continue;
    const value = tiff.getUint16(entry + 8, little);
    return value >= 1 && value <= 8 ? value : 1;
  }
  return 1;
}

/** Undoes an EXIF orientation: 2–4 mirror or turn by 180°, 5–8 also swap the axes. */
export function upright(image: Image, orientation: number): Image {
  if (orientation === 1) return image;
  const swap = orientation >= 5;
  const { width: w, height: h } = image;
  const [width, height] = swap ? [h, w] : [w, h];
  const mirrorX = [2, 3, 7, 8].includes(orientation); // of the source's columns
  const mirrorY = [3, 4, 6, 7].includes(orientation); // of the source's rows
  const data = new Uint8Array(image.data.length);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const u = swap ? y : x;
      const v = swap ? x : y;
      const from = ((mirrorY ? h - 1 - v : v) * w + (mirrorX ? w - 1 - u : u)) * 3;
      const to = (y * width + x) * 3;
      for (let c = 0; c < 3; c++) data[to + c] = image.data[from + c];
    }
  }
  return { width, height, data };
}
