// Turns the recognition network's probabilities into text: the best class of each step, repeats and blanks removed (Graves et al. 2006).
import { HeddleError } from "../../src/ir/error.ts";
import type { FloatTensor } from "./net.ts";

const BLANK = 0;

export interface Reading {
  readonly text: string;
  /** Mean probability of the characters kept; 0 for no text. */
  readonly confidence: number;
}

/** probabilities (1, steps, classes); class 0 is the blank, class i is characters[i − 1]. */
export function decodeCtc(probabilities: FloatTensor, characters: readonly string[]): Reading {
  const [, steps, classes] = probabilities.shape;
  if (classes !== characters.length + 1) {
    throw new HeddleError(
      "bad-input",
      `ctc: the network knows ${classes} classes, the dictionary ${characters.length} characters and the blank`,
    );
  }
  let text = "";
  let sum = 0;
  let count = 0;
  let last = BLANK;
  for (let step = 0; step < steps; step++) {
    const best = argmax(probabilities.data, step * classes, classes);
    if (best !== BLANK && best !== last) {
      text += characters[best - 1];
      sum += probabilities.data[step * classes + best];
      count++;
    }
    last = best;
  }
  return { text, confidence: count ? sum / count : 0 };
}

function argmax(data: Float32Array, from: number, count: number): number {
  let best = 0;
  for (let i = 1; i < count; i++) if (data[from + i] > data[from + best]) best = i;
  return best;
}

/** The dictionary file, one character a line, as the networks' classes: the space is not in the file and comes last. */
export const parseCharacters = (file: string): string[] => [...file.replace(/\r?\n$/, "").split(/\r?\n/), " "];
