// The GPT example with a network of a few thousand weights on a made-up language: it learns, goes on bit by bit, writes, and agrees with onnxruntime.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { CHAPTER, chaptersOf, corpusOf } from "../../examples/gpt/corpus.ts";
import { makeJudge, ngramLoss } from "../../examples/gpt/evaluate.ts";
import { draw, generate } from "../../examples/gpt/generate.ts";
import { Gpt } from "../../examples/gpt/model.ts";
import { checkpointOf, loadGpt, tokenizerOf, toOnnx } from "../../examples/gpt/saved.ts";
import { type Settings, train } from "../../examples/gpt/train.ts";
import { loadCheckpoint } from "../../src/formats/checkpoint.ts";
import { crossEntropy } from "../../src/nn/index.ts";
import { fromArray, tensor } from "../../src/tensor/index.ts";
import { hasOnnxruntime } from "./onnxruntime.ts";

/** Verses whose last word is the first one's: n-grams that are shorter than a verse cannot know it. */
function drawVerses(chapters: number): string {
  const words = ["king", "ark", "sea", "lamb", "tent", "ram", "well", "crown"];
  let state = 1;
  const word = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return words[state >>> 29];
  };
  const verse = (name: string) => `the ${name} saw that a ${word()} and a ${word()} came unto the ${name}`;
  const line = (i: number) => `Ge${Math.floor(i / 8) + 1}:${(i % 8) + 1} ${verse(word())}`;
  return Array.from({ length: 8 * chapters }, (_, i) => line(i)).join("\n");
}

const corpus = corpusOf(chaptersOf(drawVerses(60)), 290);
const vocabulary = corpus.tokenizer.vocabSize;
const settings: Settings = {
  model: { context: 32, width: 32, heads: 2, layers: 2, dropout: 0.1 },
  steps: 20,
  batch: 4,
  learningRate: 0.01,
  warmUp: 4,
  weightDecay: 0.1,
  clip: 1,
  seed: 3,
};

let folder = "";
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "heddle-gpt-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

test("chapters: verses without their numbers, every tenth held out", () => {
  expect(chaptersOf("\nGe1:1 In the beginning\nGe1:2 And\nEx1:1 Now these\n")).toEqual(["In the beginning\nAnd\n", "Now these\n"]);
  const chapters = Array.from({ length: 20 }, (_, i) => `chapter ${i}\n`);
  const { tokenizer, train: learned, valid, validBytes } = corpusOf(chapters, 280);
  expect(tokenizer.decode(valid)).toBe(`${CHAPTER}chapter 9\n${CHAPTER}chapter 19\n`);
  expect(tokenizer.decode(learned)).not.toContain("chapter 9\n");
  expect([...learned].filter((t) => t === tokenizer.special(CHAPTER)).length).toBe(18);
  expect(validBytes).toBe("chapter 9\nchapter 19\n".length);
  expect(() => corpusOf(["one\n"], 280)).toThrow("1 chapters, wanted 10 or more");
});

describe("the network", () => {
  const model = new Gpt({ ...settings.model, vocabulary }, 0).eval();
  const tokens = Int32Array.from({ length: 12 }, (_, i) => (i * 37) % vocabulary);
  const logitsOf = (row: Int32Array): Promise<Float64Array> => model.forward(fromArray(row, [1, row.length])).numbers();

  test("a place sees none after it", async () => {
    const changed = tokens.with(7, 5);
    const [before, after] = [await logitsOf(tokens), await logitsOf(changed)];
    expect(after.subarray(0, 7 * vocabulary)).toEqual(before.subarray(0, 7 * vocabulary));
    expect(after.subarray(7 * vocabulary)).not.toEqual(before.subarray(7 * vocabulary));
  });

  test("what follows one place is that place's row", async () => {
    const [all, one] = [await logitsOf(tokens), await model.next(fromArray(tokens, [1, 12]), tensor(7, "i32")).numbers()];
    for (const [i, logit] of one.entries()) expect(logit).toBeCloseTo(all[7 * vocabulary + i], 5);
  });

  test("refuses more tokens than its context holds", () => {
    expect(() => model.forward(fromArray(new Int32Array(33), [1, 33]))).toThrow("33 tokens, its context holds 32");
  });

  test("judging counts each token once, with what the windows show of the text before it", async () => {
    const small = new Gpt({ ...settings.model, context: 8, vocabulary }, 0);
    const valid = corpus.valid.subarray(0, 22);
    const { natsPerToken } = await makeJudge(small.eval(), { ...corpus, valid }).loss();
    const losses: number[] = [];
    for (let at = 1; at < valid.length; at++) {
      const start = at <= 8 ? 0 : 4 * Math.ceil((at - 8) / 4); // the first window that has it as a target
      const logits = small.next(fromArray(valid.slice(start, at), [1, at - start]), tensor(at - start - 1, "i32"));
      losses.push(await crossEntropy(logits, tensor(valid[at], "i32")).item());
    }
    expect(natsPerToken).toBeCloseTo(losses.reduce((a, b) => a + b) / losses.length, 4);
  });
});

test("it learns what 3-grams cannot know", async () => {
  const seen: number[] = [];
  const learned = await train({ ...settings, steps: 300, model: { ...settings.model, dropout: 0 } }, corpus, {}, ({ loss }) =>
    seen.push(loss),
  );
  expect(seen.at(-1)).toBeLessThan(seen[0] / 2);
  expect(learned.valid.natsPerToken).toBeLessThan(ngramLoss(corpus, 3).natsPerToken);
  expect(learned.valid.bitsPerByte).toBeLessThan(ngramLoss(corpus, 3).bitsPerByte);
});

test("a run that was cut goes on to the same bits", async () => {
  const [whole, cut] = [join(folder, "whole.safetensors"), join(folder, "cut.safetensors")];
  await train(settings, corpus, { checkpoint: whole });
  await train(settings, corpus, { checkpoint: cut, until: 7 });
  expect((await loadCheckpoint(cut)).step).toBe(7);
  await train(settings, corpus, { checkpoint: cut, resume: true });
  expect(await loadCheckpoint(cut)).toEqual(await loadCheckpoint(whole));
  await expect(train({ ...settings, seed: 4 }, corpus, { checkpoint: cut, resume: true })).rejects.toThrow("other settings");
}, 120_000);

describe("a trained network in a folder", () => {
  beforeAll(async () => {
    await train(settings, corpus, { checkpoint: checkpointOf(folder) });
    await corpus.tokenizer.save(tokenizerOf(folder));
  });

  test("writes the same text for the same seed, beyond its context", async () => {
    const { model, tokenizer, step } = await loadGpt(folder);
    expect(step).toBe(20);
    const write = async (seed: number): Promise<string> => {
      let text = "";
      for await (const part of generate(model, tokenizer, { prompt: "the king", count: 40, seed })) text += part;
      return text;
    };
    const text = await write(5);
    expect(text.length).toBeGreaterThan(40);
    expect(await write(5)).toBe(text);
    expect(await write(6)).not.toBe(text);
  });

  test.skipIf(!hasOnnxruntime)("as ONNX, onnxruntime's logits agree", async () => {
    const { InferenceSession, Tensor: OrtTensor } = await import("onnxruntime-node");
    const { model } = await loadGpt(folder);
    const session = await InferenceSession.create(await toOnnx(model));
    const tokens = corpus.valid.slice(0, 32);
    const { logits } = await session.run({ tokens: new OrtTensor("int32", tokens, [1, 32]) });
    const own = await model
      .eval()
      .forward(fromArray(tokens, [1, 32]))
      .numbers();
    expect(logits.dims).toEqual([1, 32, vocabulary]);
    const theirs = Float64Array.from(logits.data as Float32Array);
    expect(Math.max(...own.map((x, i) => Math.abs(x - theirs[i])))).toBeLessThan(1e-3);
    expect(Math.max(...own) - Math.min(...own)).toBeGreaterThan(1); // it has learned something to agree on
    await session.release();
  });
});

test("drawing: by probability, of the likeliest", () => {
  const logits = Float64Array.from([Math.log(1), Math.log(3), Math.log(6), Math.log(0.5)]);
  const drawn = (chance: number, temperature = 1, topK = 4) => draw(logits, chance, temperature, topK);
  expect([0, 0.56, 0.58, 0.85, 0.87, 0.94, 0.96, 0.9999].map((c) => drawn(c))).toEqual([2, 2, 1, 1, 0, 0, 3, 3]); // of 6, 3, 1 and 0.5 in 10.5
  expect([0.66, 0.67].map((c) => drawn(c, 1, 2))).toEqual([2, 1]);
  expect([0, 0.99].map((c) => drawn(c, 0))).toEqual([2, 2]);
  expect(drawn(0.99, 0.1)).toBe(2); // 6^10 of 6^10 + 3^10 + …
});
