// Turns JPEG and PNG bytes into RGB pixels, and RGB pixels into a PNG file.
import { readFile, rename, rm, writeFile } from "node:fs/promises";
import { convertIndexedToRgb, decode as decodePng, encode as encodePng } from "fast-png";
import jpeg from "jpeg-js";
import { HeddleError } from "../../src/ir/error.ts";
import { exifOrientation, upright } from "./exif.ts";

/** Interleaved 8-bit RGB, rows from the top. */
export interface Image {
  readonly width: number;
  readonly height: number;
  readonly data: Uint8Array;
}

const MAX_MEGAPIXELS = 100;
const MAX_DECODE_MB = 2048;

export const blankImage = (width: number, height: number): Image => ({ width, height, data: new Uint8Array(width * height * 3) });

/** A JPEG or PNG file as RGB; phones' EXIF orientation is applied. Throws HeddleError `io` (unreadable) or `bad-input` (not such an image). */
export async function readImage(path: string): Promise<Image> {
  let bytes: Uint8Array;
  try {
    bytes = await readFile(path);
  } catch (cause) {
    throw new HeddleError("io", `image: cannot read ${path}: ${messageOf(cause)}`, { cause });
  }
  return decodeImage(bytes, path);
}

/** `name` is only for messages. */
export function decodeImage(bytes: Uint8Array, name: string): Image {
  const isJpeg = bytes[0] === 0xff && bytes[1] === 0xd8;
  const isPng = bytes[0] === 0x89 && bytes[1] === 0x50 && bytes[2] === 0x4e && bytes[3] === 0x47;
  if (!isJpeg && !isPng) throw new HeddleError("bad-input", `image: ${name} is neither JPEG nor PNG`);
  try {
    return isJpeg ? fromJpeg(bytes) : fromPng(bytes);
  } catch (cause) {
    throw new HeddleError("bad-input", `image: ${name} is damaged or of a kind the decoder lacks: ${messageOf(cause)}`, { cause });
  }
}

function fromJpeg(bytes: Uint8Array): Image {
  const limits = { maxResolutionInMP: MAX_MEGAPIXELS, maxMemoryUsageInMB: MAX_DECODE_MB };
  const { width, height, data } = jpeg.decode(bytes, { useTArray: true, formatAsRGBA: false, ...limits });
  return upright({ width, height, data }, exifOrientation(bytes));
}

function fromPng(bytes: Uint8Array): Image {
  const header = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const megapixels = bytes.length < 24 ? 0 : (header.getUint32(16) * header.getUint32(20)) / 1e6;
  if (megapixels > MAX_MEGAPIXELS) throw new Error(`${megapixels.toFixed(0)} megapixels, at most ${MAX_MEGAPIXELS}`);
  const png = decodePng(bytes);
  const { width, height } = png;
  const source = png.palette ? convertIndexedToRgb(png) : png.data;
  const perByte = png.depth < 8 && !png.palette ? 8 / png.depth : 0; // small gray depths stay packed, rows padded to bytes
  const channels = source.length / (width * height);
  const out = blankImage(width, height);
  if (perByte) {
    unpackGray(source, width, height, perByte, out.data);
    return out;
  }
  const scale = png.depth === 16 ? 1 / 257 : 1;
  const hasAlpha = channels === 2 || channels === 4;
  const isGray = channels < 3;
  for (let i = 0; i < width * height; i++) {
    const at = i * channels;
    const alpha = hasAlpha ? (source[at + channels - 1] * scale) / 255 : 1;
    for (let c = 0; c < 3; c++) out.data[i * 3 + c] = 255 + (source[isGray ? at : at + c] * scale - 255) * alpha + 0.5; // over white
  }
  return out;
}

/** Gray pixels of 1, 2 or 4 bits, the first in the highest bits. */
function unpackGray(source: ArrayLike<number>, width: number, height: number, perByte: number, rgb: Uint8Array): void {
  const bits = 8 / perByte;
  const top = 2 ** bits - 1;
  const rowBytes = Math.ceil(width / perByte);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const byte = source[y * rowBytes + Math.floor(x / perByte)];
      const value = ((byte >> (8 - bits * ((x % perByte) + 1))) & top) * (255 / top);
      rgb.fill(value, (y * width + x) * 3, (y * width + x) * 3 + 3);
    }
  }
}

/** Writes a PNG beside `path` first and renames it, so that no half-written file is ever seen under that name. */
export async function writePng(path: string, image: Image): Promise<void> {
  const temporary = `${path}.${process.pid}.tmp`;
  try {
    await writeFile(temporary, encodePng({ ...image, channels: 3, depth: 8 }));
    await rename(temporary, path);
  } catch (cause) {
    await rm(temporary, { force: true });
    throw new HeddleError("io", `image: cannot write ${path}: ${messageOf(cause)}`, { cause });
  }
}

const messageOf = (cause: unknown): string => (cause instanceof Error ? cause.message : String(cause));
