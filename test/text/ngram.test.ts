// N-gram probabilities against their definition by plain lists, and their sums.
import { describe, expect, test } from "vitest";
import { NgramModel } from "../../src/text/ngram.ts";

/** Words of a made-up language in which some follow others more often. */
function drawText(length: number, vocabSize: number, seed: number): number[] {
  let state = seed;
  const random = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
  const text = [0];
  while (text.length < length)
    text.push(random() < 0.6 ? (text.at(-1)! * 3 + text.length % 2) % vocabSize : Math.floor(random() ** 2 * vocabSize)); // biome-ignore format: a formula
  return text;
}

/** The definition: counts by searching, discounts as given by the number of n-grams seen once to four times. */
function defined(text: readonly number[], order: number, vocabSize: number) {
  const grams = (k: number) => text.flatMap((_, i) => (i + k <= text.length ? [text.slice(i, i + k).join(" ")] : []));
  const countsOf = (k: number): Map<string, number> => {
    const counts = new Map<string, number>();
    const counted = k === order ? grams(k) : [...new Set(grams(k + 1))].map((gram) => gram.slice(gram.indexOf(" ") + 1));
    for (const gram of counted) counts.set(gram, (counts.get(gram) ?? 0) + 1);
    return counts;
  };
  const tables = Array.from({ length: order }, (_, i) => countsOf(i + 1));
  const discounts = tables.map((table) => {
    const n = [1, 2, 3, 4].map((c) => [...table.values()].filter((seen) => seen === c).length);
    const y = n[0] / (n[0] + 2 * n[1]);
    const found = [1 - (2 * y * n[1]) / n[0], 2 - (3 * y * n[2]) / n[1], 3 - (4 * y * n[3]) / n[2]];
    return found.map((d, i) => (d > 0 && d <= i + 1 ? d : 0.75)); // single tokens are too few for an estimate
  });
  const probability = (history: readonly number[], token: number): number => {
    const table = tables[history.length];
    const shorter = history.length === 0 ? 1 / vocabSize : probability(history.slice(1), token);
    const followers = Array.from({ length: vocabSize }, (_, w) => table.get([...history, w].join(" ")) ?? 0);
    const total = followers.reduce((a, b) => a + b);
    if (total === 0) return shorter;
    const off = (seen: number) => (seen ? discounts[history.length][Math.min(seen, 3) - 1] : 0);
    const left = followers.reduce((sum, seen) => sum + off(seen), 0);
    return (followers[token] - off(followers[token])) / total + (left / total) * shorter;
  };
  return { probability, discounts };
}

describe("Kneser-Ney n-grams", () => {
  const vocabSize = 12;
  const text = drawText(900, vocabSize, 5);

  test.each([1, 2, 3, 5])("order %i: probabilities sum to 1 after any history, seen or not", (order) => {
    const model = NgramModel.train(text, { order, vocabSize });
    for (const history of [[], [3], text.slice(0, 6), text.slice(400, 404), [11, 11, 11, 11], [1, 2, 11, 11, 0]]) {
      const all = Array.from({ length: vocabSize }, (_, token) => model.probability(history, token));
      expect(Math.abs(all.reduce((a, b) => a + b) - 1)).toBeLessThan(1e-12);
      expect(Math.min(...all)).toBeGreaterThan(0);
    }
  });

  test("as defined", () => {
    const model = NgramModel.train(text, { order: 3, vocabSize });
    const { probability, discounts } = defined(text, 3, vocabSize);
    expect(discounts[2]).not.toContain(0.75); // those were estimated
    for (const history of [text.slice(10, 12), text.slice(500, 502), [11, 10], [0, 0]])
      for (let token = 0; token < vocabSize; token++)
        expect(model.probability(history, token)).toBeCloseTo(probability(history, token), 12);
  });

  test("losses are those of the probabilities", () => {
    const model = NgramModel.train(text, { order: 4, vocabSize });
    const other = drawText(50, vocabSize, 9);
    const losses = model.losses(other);
    for (const [i, token] of other.entries()) expect(losses[i]).toBeCloseTo(-Math.log(model.probability(other.slice(0, i), token)), 12);
  });

  test("longer histories tell more", () => {
    const other = drawText(2000, vocabSize, 77);
    const mean = (order: number) => {
      const losses = NgramModel.train(drawText(20000, vocabSize, 6), { order, vocabSize }).losses(other);
      return losses.reduce((a, b) => a + b) / losses.length;
    };
    expect(mean(2)).toBeLessThan(mean(1) - 0.2);
  });

  test("refuses tokens outside of the vocabulary", () => {
    const model = NgramModel.train([0, 1], { order: 2, vocabSize: 2 });
    expect(() => model.probability([], 2)).toThrow("token 2, the vocabulary has 2");
    expect(() => model.probability([-1], 0)).toThrow("token -1");
    expect(() => NgramModel.train([0.5], { order: 2, vocabSize: 2 })).toThrow("token 0.5");
    expect(() => NgramModel.train([0], { order: 0, vocabSize: 2 })).toThrow("order 0");
  });
});
