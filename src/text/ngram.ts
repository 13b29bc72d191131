// N-gram model: tokens → probabilities of the next token, by interpolated Kneser-Ney smoothing with three discounts (Chen and Goodman 1999, section 3).
import { HeddleError } from "../ir/error.ts";

export interface NgramOptions {
  /** Length of the longest n-grams. */
  readonly order: number;
  /** Tokens are 0 to this, exclusive. */
  readonly vocabSize: number;
}

/** What is taken off n-grams that were seen once, twice, and more often. */
type Discounts = readonly [once: number, twice: number, more: number];

/** The n-grams of one length, numbered as they came. */
interface Level {
  /** Number of all but the last token, times the size of the vocabulary, plus the last token → number. */
  readonly numbers: Map<number, number>;
  /** How often each occurs; of all but the longest: how many different tokens stand before it. */
  readonly counts: number[];
  /** By the number of the context: the sum of counts, and how much is taken off them. */
  totals: Float64Array;
  discounted: Float64Array;
  discounts: Discounts;
}

/** The longest contexts at one place of a text: the number of the last 0, 1, … tokens; -1 for one that was never seen. */
type Contexts = Int32Array;

const UNSEEN = -1;

export class NgramModel {
  private constructor(
    private readonly options: NgramOptions,
    private readonly levels: readonly Level[],
  ) {}

  /** Counts the n-grams of one text. */
  static train(tokens: ArrayLike<number>, options: NgramOptions): NgramModel {
    const { order, vocabSize } = options;
    if (!(Number.isSafeInteger(order) && order >= 1)) throw new HeddleError("bad-argument", `n-gram: order ${order}, wanted 1 or more`);
    const levels = Array.from({ length: order }, emptyLevel);
    let contexts = startOf(order);
    for (let i = 0; i < tokens.length; i++) contexts = count(levels, contexts, checked(tokens[i], vocabSize), vocabSize);
    for (const [k, level] of levels.entries()) summarize(level, k === 0 ? 1 : levels[k - 1].counts.length, vocabSize);
    return new NgramModel(options, levels);
  }

  /** Of a token after others; those that are more than order − 1 back do not matter. They sum to 1 over the vocabulary. */
  probability(history: ArrayLike<number>, token: number): number {
    let contexts = startOf(this.options.order);
    for (let i = Math.max(0, history.length - this.options.order + 1); i < history.length; i++)
      contexts = this.follow(contexts, history[i]);
    return this.after(contexts, token);
  }

  /** −ln of the probability of each token of a text after those before it. */
  losses(tokens: ArrayLike<number>): Float64Array {
    let contexts = startOf(this.options.order);
    return Float64Array.from(tokens, (token) => {
      const loss = -Math.log(this.after(contexts, token));
      contexts = this.follow(contexts, token);
      return loss;
    });
  }

  /** From the shortest context to the longest: what is taken off the counts goes to the shorter one's probabilities. */
  private after(contexts: Contexts, token: number): number {
    const { vocabSize } = this.options;
    checked(token, vocabSize);
    let p = 1 / vocabSize;
    for (const [k, level] of this.levels.entries()) {
      const context = contexts[k];
      if (context === UNSEEN || !level.totals[context]) break; // longer ones were not seen either
      const number = level.numbers.get(context * vocabSize + token);
      const seen = number === undefined ? 0 : level.counts[number];
      p = (seen - discountOf(level.discounts, seen) + level.discounted[context] * p) / level.totals[context];
    }
    return p;
  }

  private follow(contexts: Contexts, token: number): Contexts {
    const { order, vocabSize } = this.options;
    checked(token, vocabSize);
    const next = startOf(order);
    for (let k = 1; k < order && contexts[k - 1] !== UNSEEN; k++)
      next[k] = this.levels[k - 1].numbers.get(contexts[k - 1] * vocabSize + token) ?? UNSEEN;
    return next;
  }
}

function checked(token: number, vocabSize: number): number {
  if (!(Number.isInteger(token) && token >= 0 && token < vocabSize))
    throw new HeddleError("bad-argument", `n-gram: token ${token}, the vocabulary has ${vocabSize}`);
  return token;
}

const emptyLevel = (): Level => ({
  numbers: new Map(),
  counts: [],
  totals: new Float64Array(0),
  discounted: new Float64Array(0),
  discounts: [0, 0, 0],
});

/** Before the first token: only the empty context. */
function startOf(order: number): Contexts {
  const contexts = new Int32Array(order).fill(UNSEEN);
  contexts[0] = 0;
  return contexts;
}

/** Counts the n-grams that end with a token. A new one is one more token before its shorter self. */
function count(levels: readonly Level[], contexts: Contexts, token: number, vocabSize: number): Contexts {
  const next = startOf(levels.length);
  let shorter = UNSEEN;
  for (const [k, { numbers, counts }] of levels.entries()) {
    if (contexts[k] === UNSEEN) break; // the text begins here
    const at = contexts[k] * vocabSize + token;
    const known = numbers.get(at);
    const number = known ?? counts.push(0) - 1;
    if (known === undefined) {
      numbers.set(at, number);
      if (k > 0) levels[k - 1].counts[shorter]++;
    }
    if (k === levels.length - 1) counts[number]++;
    else next[k + 1] = number;
    shorter = number;
  }
  return next;
}

/** Discounts, and sums by context. */
function summarize(level: Level, contexts: number, vocabSize: number): void {
  level.discounts = estimateDiscounts(level.counts);
  level.totals = new Float64Array(contexts);
  level.discounted = new Float64Array(contexts);
  for (const [at, number] of level.numbers) {
    const context = Math.floor(at / vocabSize);
    level.totals[context] += level.counts[number];
    level.discounted[context] += discountOf(level.discounts, level.counts[number]);
  }
}

const discountOf = (discounts: Discounts, seen: number): number => (seen === 0 ? 0 : discounts[Math.min(seen, 3) - 1]);

/** Equation 26 of Chen and Goodman; where too little was seen to estimate one, three quarters. */
function estimateDiscounts(counts: readonly number[]): Discounts {
  const n = [0, 0, 0, 0, 0];
  for (const c of counts) if (c >= 1 && c <= 4) n[c]++;
  const y = n[1] / (n[1] + 2 * n[2]);
  const discount = (c: 1 | 2 | 3) => {
    const found = c - ((c + 1) * y * n[c + 1]) / n[c];
    return found > 0 && found <= c ? found : 0.75;
  };
  return [discount(1), discount(2), discount(3)];
}
