// From probabilities to text: repeats, blanks, confidence and the dictionary.
import { describe, expect, test } from "vitest";
import { decodeCtc, parseCharacters } from "../../examples/ocr/ctc.ts";
import type { FloatTensor } from "../../examples/ocr/net.ts";

const characters = parseCharacters("a\nb\nc\n");

/** Steps as [class, probability]; the rest is spread over the other classes. */
function steps(...best: readonly (readonly [number, number])[]): FloatTensor {
  const classes = characters.length + 1;
  const data = new Float32Array(best.length * classes);
  for (const [step, [index, p]] of best.entries())
    for (let c = 0; c < classes; c++) data[step * classes + c] = c === index ? p : (1 - p) / (classes - 1);
  return { shape: [1, best.length, classes], data };
}

describe("decodeCtc", () => {
  test("joins repeats, keeps those that a blank parts", () => {
    expect(decodeCtc(steps([1, 0.9], [1, 0.8], [0, 0.9], [1, 0.7], [2, 0.9], [0, 0.9], [4, 0.9], [3, 0.9]), characters).text).toBe("aab c");
  });

  test("is as sure as the first step of each character on average", () => {
    expect(decodeCtc(steps([1, 0.9], [1, 0.5], [0, 0.99], [2, 0.7]), characters).confidence).toBeCloseTo(0.8);
  });

  test("reads nothing from blanks or from no steps", () => {
    expect(decodeCtc(steps([0, 0.9], [0, 0.9]), characters)).toEqual({ text: "", confidence: 0 });
    expect(decodeCtc({ shape: [1, 0, 5], data: new Float32Array(0) }, characters)).toEqual({ text: "", confidence: 0 });
  });

  test("refuses a dictionary of another network", () => {
    expect(() => decodeCtc({ shape: [1, 1, 7], data: new Float32Array(7) }, characters)).toThrow(/7 classes, the dictionary 4 characters/);
  });
});

test("the dictionary may end its lines either way, and the space comes last", () => {
  expect(characters).toEqual(["a", "b", "c", " "]);
  expect(parseCharacters("a\r\nb\r\nc")).toEqual(characters);
});
