// Finding words in letters: the text's preparation, the baseline, and a small network that learns the same from the same seed.
import { describe, expect, test } from "vitest";
import { countedEnds } from "../../examples/lstm/baseline.ts";
import { Segmenter } from "../../examples/lstm/network.ts";
import { lettersOf, split, windows } from "../../examples/lstm/text.ts";
import { evaluate, scoreOf, train } from "../../examples/lstm/train.ts";
import { HeddleError } from "../../src/ir/error.ts";

const text = lettersOf("In the beginning, God created the heaven and the earth. ".repeat(40));

describe("text", () => {
  test("letters without spaces, and where words end", () => {
    expect(lettersOf("Ab, c!")).toEqual({ letters: Uint8Array.from([1, 2, 3]), ends: Uint8Array.from([0, 1, 1]) });
  });
  test("of ten chapters the last is held out", () => {
    const chapters = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "xy"];
    expect(split(chapters).judged.letters).toEqual(Uint8Array.from([24, 25]));
    expect(split(chapters).learned.letters.length).toBe(9);
    expect(() => split(["a"])).toThrow(HeddleError);
  });
  test("windows", async () => {
    const { letters, ends } = windows(lettersOf("ab cd"), [0, 2], 2);
    expect(await letters.array()).toEqual([[1, 2], [3, 4]]); // biome-ignore format: a matrix
    expect(await ends.array()).toEqual([[0, 1], [0, 1]]); // biome-ignore format: a matrix
  });
});

test("scores", () => {
  const { precision, recall, f1 } = scoreOf(Uint8Array.from([1, 1, 0, 0]), {
    letters: new Uint8Array(4),
    ends: Uint8Array.from([1, 0, 1, 1]),
  });
  expect([precision, recall, f1]).toEqual([1 / 2, 1 / 3, 2 / 5]);
});

test("counting finds what was seen before", () => {
  expect(scoreOf(countedEnds(text, text), text).f1).toBe(1);
});

test("a network learns, and the same from the same seed", async () => {
  const settings = { steps: 60, batch: 16, length: 8, learningRate: 0.05, seed: 2 };
  const [model, again] = [0, 1].map(() => new Segmenter({ seed: 1, width: 8, hidden: 8 }));
  const { losses } = await train(model, text, settings);
  expect(losses.length).toBe(60);
  expect(losses.at(-1)!).toBeLessThan(0.5 * losses[0]);
  expect((await evaluate(model, text, 8)).f1).toBeGreaterThan(0.7); // one sentence over and over
  expect((await train(again, text, settings)).losses).toEqual(losses);
}, 120_000);
