// Runs the detection network over a photograph: picture in, boxes of text lines in the picture's pixels out.

import type { Image } from "../../src/formats/image.ts";
import { type Box, type BoxOptions, findBoxes, scaleCorners } from "./boxes.ts";
import type { Net } from "./net.ts";
import { sidesOf } from "./reading_order.ts";
import { IMAGENET, toTensor } from "./resize.ts";

export interface DetectOptions extends BoxOptions {
  /** A longer picture is shrunk to this many pixels on its longer side; smaller ones stay. */
  readonly limitSide?: number;
}

export const DETECT_DEFAULTS = { limitSide: 960 } as const;
/** The network halves its input five times. */
const MULTIPLE = 32;
/** Pixels of the picture; nothing smaller can be read, and cutting it out would divide by nothing. */
const MIN_SIDE = 3;

/** Width and height given to the network: limited, then rounded to multiples of 32. */
export function detectSize({ width, height }: { width: number; height: number }, limitSide: number): [width: number, height: number] {
  const scale = Math.min(1, limitSide / Math.max(width, height));
  const side = (pixels: number): number => Math.max(MULTIPLE, Math.round((pixels * scale) / MULTIPLE) * MULTIPLE);
  return [side(width), side(height)];
}

export async function detectBoxes(image: Image, net: Net, options: DetectOptions = {}): Promise<Box[]> {
  const [width, height] = detectSize(image, options.limitSide ?? DETECT_DEFAULTS.limitSide);
  const map = await net.run(toTensor(image, width, height, IMAGENET));
  const [sx, sy] = [image.width / width, image.height / height];
  const boxes = findBoxes(map.data, width, height, options);
  const scaled = boxes.map(({ corners, score }) => ({ corners: scaleCorners(corners, sx, sy, image.width, image.height), score }));
  return scaled.filter(({ corners }) => Math.min(sidesOf(corners).width, sidesOf(corners).height) > MIN_SIDE);
}
