// Asks the orientation network whether a line of text stands on its head, and turns it upright.
import type { Image } from "../../src/formats/image.ts";
import type { Net } from "./net.ts";
import { halfTurn } from "./perspective.ts";
import { SIGNED, toTensor } from "./resize.ts";

/** Height and width that the network was trained with. */
export const ORIENT_SIZE = { height: 48, width: 192 } as const;

export interface OrientOptions {
  /** Below this certainty a line is left as it is. */
  readonly minTurnScore?: number;
}

export const ORIENT_DEFAULTS = { minTurnScore: 0.9 } as const;

export async function turnUpright(line: Image, net: Net, options: OrientOptions = {}): Promise<{ image: Image; isTurned: boolean }> {
  const { height, width } = ORIENT_SIZE;
  const used = Math.min(width, Math.max(1, Math.ceil((height * line.width) / line.height)));
  const { data } = await net.run(toTensor(line, used, height, SIGNED, width));
  const isTurned = data[1] > (options.minTurnScore ?? ORIENT_DEFAULTS.minTurnScore);
  return { image: isTurned ? halfTurn(line) : line, isTurned };
}
