// Bytes of a JPEG or PNG file ↔ RGB pixels.
import type { DecodedPng } from "fast-png";
import { HeddleError } from "../ir/error.ts";

/** Rows from the top; three bytes a pixel: red, green, blue. */
export interface Image {
  readonly width: number;
  readonly height: number;
  readonly data: Uint8Array;
}

/** Larger pictures are refused before they are unpacked. */
const MAX_PIXELS = 100e6;

/** Pixels of a JPEG or PNG; transparent ones are laid on white. Throws HeddleError ("bad-input", "limit"; "missing": a decoder package). */
export async function readImage(bytes: Uint8Array, what = "image"): Promise<Image> {
  if (startsWith(bytes, [0xff, 0xd8, 0xff])) return readJpeg(bytes, what);
  if (startsWith(bytes, [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a])) return readPng(bytes, what);
  throw new HeddleError("bad-input", `${what}: neither a JPEG nor a PNG file`);
}

/** Bytes of a PNG. */
export async function writePng({ width, height, data }: Image): Promise<Uint8Array> {
  if (data.length !== width * height * 3)
    throw new HeddleError("bad-input", `png: ${data.length} bytes of pixels, ${width} × ${height} has ${width * height * 3}`);
  const { encode } = await load("fast-png", () => import("fast-png"));
  return encode({ width, height, data, depth: 8, channels: 3 });
}

const startsWith = (bytes: Uint8Array, magic: readonly number[]): boolean => magic.every((b, i) => bytes[i] === b);

async function load<T>(name: string, f: () => Promise<T>): Promise<T> {
  try {
    return await f();
  } catch (cause) {
    throw new HeddleError("missing", `image: the package ${name} is not installed; npm install ${name}`, { cause });
  }
}

function checkSize(width: number, height: number, what: string): void {
  if (width * height > MAX_PIXELS)
    throw new HeddleError("limit", `${what}: ${width} × ${height} pixels, heddle reads up to ${MAX_PIXELS / 1e6} million`);
}

const decodeFailed = (what: string, kind: string, cause: unknown): HeddleError =>
  cause instanceof HeddleError
    ? cause
    : new HeddleError("bad-input", `${what}: not a valid ${kind} (${cause instanceof Error ? cause.message : String(cause)})`, { cause });

async function readJpeg(bytes: Uint8Array, what: string): Promise<Image> {
  const module = await load("jpeg-js", () => import("jpeg-js"));
  try {
    const { width, height, data } = module.default.decode(bytes, {
      useTArray: true,
      formatAsRGBA: false,
      maxResolutionInMP: MAX_PIXELS / 1e6,
      maxMemoryUsageInMB: 2048,
    });
    return { width, height, data };
  } catch (cause) {
    throw decodeFailed(what, "JPEG", cause);
  }
}

async function readPng(bytes: Uint8Array, what: string): Promise<Image> {
  const { convertIndexedToRgb, decode } = await load("fast-png", () => import("fast-png"));
  try {
    const header = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    checkSize(header.getUint32(16), header.getUint32(20), what); // IHDR comes first
    const png = decode(bytes);
    if (!png.palette) return { width: png.width, height: png.height, data: toRgb(png) };
    const channels = png.palette[0].length;
    const data = convertIndexedToRgb(png);
    return { width: png.width, height: png.height, data: toRgb({ ...png, data, channels, depth: 8 }) };
  } catch (cause) {
    throw decodeFailed(what, "PNG", cause);
  }
}

/** Grey, grey with alpha, RGB or RGBA of any depth → RGB of 8 bits. */
function toRgb({ width, height, data, channels, depth }: Pick<DecodedPng, "width" | "height" | "data" | "channels" | "depth">): Uint8Array {
  const out = new Uint8Array(width * height * 3);
  const isGrey = channels < 3;
  const hasAlpha = channels === 2 || channels === 4;
  const sample = sampler(data, depth, width * channels);
  for (let y = 0, to = 0; y < height; y++) {
    for (let x = 0; x < width; x++, to += 3) {
      const alpha = hasAlpha ? sample(y, x * channels + channels - 1) : 1;
      for (let c = 0; c < 3; c++) {
        const value = sample(y, x * channels + (isGrey ? 0 : c));
        out[to + c] = Math.round(255 * (value * alpha + 1 - alpha));
      }
    }
  }
  return out;
}

/** Sample number i of row y, in [0, 1]. Samples of less than 8 bits are packed, and rows start at whole bytes. */
function sampler(data: DecodedPng["data"], depth: number, rowSamples: number): (y: number, i: number) => number {
  const largest = 2 ** depth - 1;
  if (depth >= 8) return (y, i) => data[y * rowSamples + i] / largest;
  const rowBytes = Math.ceil((rowSamples * depth) / 8);
  return (y, i) => {
    const bit = i * depth;
    return ((data[y * rowBytes + (bit >> 3)] >> (8 - depth - (bit & 7))) & largest) / largest;
  };
}
