// A network and the beginning of a text → more text, token by token, drawn by a seed.
import { HeddleError } from "../../src/ir/error.ts";
import { fromArray, jit, key, random, type Tensor } from "../../src/tensor/index.ts";
import type { BpeTokenizer } from "../../src/text/index.ts";
import { CHAPTER } from "./corpus.ts";
import type { Gpt } from "./model.ts";

export interface GenerateOptions {
  /** Default: the beginning of a chapter. */
  readonly prompt?: string;
  /** Tokens to draw. */
  readonly count: number;
  /** Logits are divided by it: below 1 it dares less; 0 takes the likeliest token. Default 0.8. */
  readonly temperature?: number;
  /** Only so many of the likeliest tokens are drawn from. Default 40. */
  readonly topK?: number;
  /** Default 0. */
  readonly seed?: number;
}

/** Parts of text as they come, without the prompt. All it sees at a time is the last `context` tokens. */
export async function* generate(model: Gpt, tokenizer: BpeTokenizer, options: GenerateOptions): AsyncGenerator<string> {
  const { prompt = "", count, temperature = 0.8, topK = 40, seed = 0 } = options;
  if (!(temperature >= 0)) throw new HeddleError("bad-argument", `generate: temperature ${temperature}, wanted 0 or more`);
  if (!(Number.isSafeInteger(topK) && topK >= 1)) throw new HeddleError("bad-argument", `generate: topK ${topK}, wanted 1 or more`);
  const { context } = model.options;
  using next = jit((tokens: Tensor, place: Tensor) => {
    model.eval();
    return model.next(tokens, place);
  });
  const tokens = [...tokenizer.encode(CHAPTER + prompt)];
  const decoder = tokenizer.decoder();
  for (let i = 0; i < count; i++) {
    const seen = tokens.slice(-context);
    const row = new Int32Array(context); // what stands after the place is not seen from it
    row.set(seen);
    const logits = await next(fromArray(row, [1, context]), fromArray(Int32Array.of(seen.length - 1), [])).numbers();
    const chance = await random.uniform(random.fold(key(seed), i), []).item();
    const token = draw(logits, chance, temperature, topK);
    tokens.push(token);
    yield decoder.push(token);
  }
  yield decoder.end();
}

/** The token at which the probabilities of the likeliest, one after another, reach `chance` of their sum. */
export function draw(logits: Float64Array, chance: number, temperature: number, topK: number): number {
  const order = Array.from(logits.keys()).sort((a, b) => logits[b] - logits[a] || a - b);
  if (temperature === 0) return order[0];
  const kept = order.slice(0, topK);
  const weights = kept.map((token) => Math.exp((logits[token] - logits[order[0]]) / temperature));
  let left = chance * weights.reduce((a, b) => a + b);
  for (const [i, weight] of weights.entries()) {
    left -= weight;
    if (left < 0) return kept[i];
  }
  return kept.at(-1)!; // rounding
}
