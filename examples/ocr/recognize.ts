// Runs the recognition network over one upright line of text: picture in, string and confidence out.

import type { Image } from "../../src/formats/image.ts";
import { decodeCtc, type Reading } from "./ctc.ts";
import type { Net } from "./net.ts";
import { SIGNED, toTensor } from "./resize.ts";

export const LINE_HEIGHT = 48;

export interface RecognizeOptions {
  /** Widths given to the network are multiples of this, so that few shapes have to be compiled. */
  readonly widthStep?: number;
  readonly minWidth?: number;
  /** Longer lines are squeezed: the network's work and memory grow with the width. */
  readonly maxWidth?: number;
}

export const RECOGNIZE_DEFAULTS = { widthStep: 64, minWidth: 320, maxWidth: 3200 } as const;

/** Pixels that the line fills at the network's height, and the width of the tensor that holds it. */
export function recognizeWidth(line: { width: number; height: number }, options: RecognizeOptions = {}): { used: number; padded: number } {
  const { widthStep, minWidth, maxWidth } = { ...RECOGNIZE_DEFAULTS, ...options };
  const natural = Math.max(1, Math.ceil((LINE_HEIGHT * line.width) / line.height));
  const padded = Math.min(maxWidth, Math.ceil(Math.max(natural, minWidth) / widthStep) * widthStep);
  return { used: Math.min(natural, padded), padded };
}

export async function recognizeLine(
  line: Image,
  net: Net,
  characters: readonly string[],
  options: RecognizeOptions = {},
): Promise<Reading> {
  const { used, padded } = recognizeWidth(line, options);
  const probabilities = await net.run(toTensor(line, used, LINE_HEIGHT, SIGNED, padded));
  return decodeCtc(probabilities, characters);
}
