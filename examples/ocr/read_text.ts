// Reads a photograph: detects lines of text, cuts each out, turns it upright and recognises its characters.

import type { Image } from "../../src/formats/image.ts";
import { type DetectOptions, detectBoxes } from "./detect.ts";
import type { Nets } from "./net.ts";
import { type OrientOptions, turnUpright } from "./orient.ts";
import { cutLine } from "./perspective.ts";
import { inReadingOrder, type Turned } from "./reading_order.ts";
import { type RecognizeOptions, recognizeLine } from "./recognize.ts";

export interface ReadOptions {
  readonly detect?: DetectOptions;
  readonly orient?: OrientOptions;
  readonly recognize?: RecognizeOptions;
  /** Lines read with less confidence are left out. */
  readonly minConfidence?: number;
}

export const READ_DEFAULTS = { minConfidence: 0.5 } as const;

/** `corners` are in pixels of the picture: top left, top right, bottom right, bottom left. */
export interface Line extends Turned {
  readonly text: string;
  /** Mean probability of its characters. */
  readonly confidence: number;
}

/** The lines of text in reading order. */
export async function readText(image: Image, nets: Nets, options: ReadOptions = {}): Promise<Line[]> {
  const lines: Line[] = [];
  for (const { corners } of await detectBoxes(image, nets.detect, options.detect)) {
    const cut = cutLine(image, corners);
    const upright = await turnUpright(cut.image, nets.orient, options.orient);
    const { text, confidence } = await recognizeLine(upright.image, nets.recognize, nets.characters, options.recognize);
    if (text.trim() === "" || confidence < (options.minConfidence ?? READ_DEFAULTS.minConfidence)) continue;
    const turned = cut.isTurned ? (upright.isTurned ? 270 : 90) : upright.isTurned ? 180 : 0;
    lines.push({ text, confidence, corners, turned });
  }
  return inReadingOrder(lines);
}
