// Which weights of attention dropout keeps: a kernel draws them, 32 to a word as random words are numbered, and kernels of attention read them beside their fragments.
import { bits, FRAGMENT, float, fn, fragmentPlace, int, num, type Reg, SimtBuilder, type SimtKernel, type SimtTarget, select, sum, thread } from "../../ir/simt.ts"; // biome-ignore format: a list
import { gridOf, linearGroup } from "../../lower/simt_grid.ts";
import type { AttentionShape } from "./attention.ts";
import { rowOf } from "./head_tiles.ts";
import { encrypt } from "./random_words.ts";

/** How weights are dropped. */
export interface Dropping {
  readonly probability: number;
}

const WORD = 32;
const THREADS = 256;
/** What fractions of 24 bits are of their words. */
const FRACTIONS = 2 ** 24;

export const scoreCount = ({ batch, heads, queries, keys }: AttentionShape): number => batch * heads * queries * keys;
export const wordCount = (shape: AttentionShape): number => Math.ceil(scoreCount(shape) / WORD);

/** A word's fraction is the probability or more, as float32 compares them, from this one on. */
const leastKept = ({ probability }: Dropping): number => Math.ceil(Math.fround(probability) * FRACTIONS) * (2 ** WORD / FRACTIONS);
/** Whether words are numbered in registers, and some are kept. */
export const fitsKeptBits = (shape: AttentionShape, dropping: Dropping): boolean =>
  scoreCount(shape) < 2 ** 31 && leastKept(dropping) < 2 ** WORD;

/** Buffers: key, words. Words of which a causal query sees no key are 0. */
export function keptBitsKernel(name: string, shape: AttentionShape, dropping: Dropping, target: SimtTarget): SimtKernel {
  const { queries, keys, isCausal } = shape;
  const [count, words] = [scoreCount(shape), wordCount(shape)];
  const half = Math.ceil(count / 2);
  // Both words of a counter are drawn for two words of bits.
  const isPaired = half % WORD === 0 && count % 2 === 0;
  const [threads, apart] = [isPaired ? words / 2 : words, half / WORD];
  const grid = gridOf(Math.ceil(threads / THREADS), target);
  const b = new SimtBuilder(name, target);
  const key = b.buffer("key", "u32", 2, "read");
  const out = b.buffer("bits", "i32", words, "write");
  const at = b.let(sum(fn("mul", linearGroup(grid), THREADS), thread()));
  const least = num("u32", leastKept(dropping));
  const draw = (): void => {
    const all = [0, 1].slice(isPaired ? 0 : 1).map(() => b.variable("i32", int(0)));
    b.loop(0, WORD, 1, (place) => {
      const element = b.let(sum(fn("mul", at, WORD), place));
      const counter = isPaired ? element : b.let(select(fn("ge", element, half), fn("sub", element, half), element));
      const [low, high] = encrypt(b, key, bits("u32", counter));
      const drawn = isPaired ? [low, high] : [select(fn("ge", element, half), high, low)];
      const one = b.let(fn("shl", int(1), place));
      for (const [i, word] of all.entries()) b.set(word, fn("or", word, select(fn("ge", drawn[i], least), one, int(0))));
    });
    for (const [i, word] of all.entries()) b.store(out, sum(at, i * apart), word);
  };
  // Words of both halves are then of the same places.
  const isSkipped = isCausal && isPaired && keys % WORD === 0 && half % (queries * keys) === 0;
  b.when(fn("lt", at, threads), () => {
    if (!isSkipped) return draw();
    const perRow = keys / WORD;
    const [row, first] = [fn("rem", fn("div", at, perRow), queries), fn("mul", fn("rem", at, perRow), WORD)];
    b.when(fn("le", first, sum(row, keys - queries)), draw, () => {
      for (const i of [0, 1]) b.store(out, sum(at, i * apart), int(0));
    });
  });
  return b.build([THREADS, 1, 1], grid);
}

/** Whether elements of fragments are kept. Rows of fragments are queries and columns keys, or the other way round. */
export class KeptBits {
  private readonly buffer: number;
  private line: Reg = int(0);
  private row: Reg = int(0);

  constructor(
    private readonly b: SimtBuilder,
    private readonly shape: AttentionShape,
    private readonly isTurned = false,
  ) {
    this.buffer = b.buffer("bits", "i32", wordCount(shape), "read");
  }

  /** Of the subgroup's rows from `row` on, of one head of an example. */
  begin(line: Reg, row: Reg): void {
    [this.line, this.row] = [line, row];
  }

  /** What is left of an element in the fragments whose columns begin at `column`. */
  at(column: Reg): (i: number, j: number, e: number, x: Reg) => Reg {
    const { b } = this;
    const known = new Map<string, Reg>();
    const word = (name: string, load: () => Reg): Reg => {
      const value = known.get(name) ?? b.let(load());
      known.set(name, value);
      return value;
    };
    // Keys of a fragment then lie in one word.
    const kept = this.shape.keys % FRAGMENT === 0 ? this.together(column, word) : this.single(column);
    return (i, j, e, x) => select(kept(i, j, e), x, float(0));
  }

  private place(query: Reg): Reg {
    const { queries, keys } = this.shape;
    return fn("mul", sum(fn("mul", this.line, queries), fn("min", query, queries - 1)), keys);
  }

  private together(column: Reg, known: (name: string, load: () => Reg) => Reg) {
    const { b, isTurned, shape } = this;
    return (i: number, j: number, e: number): Reg => {
      const across = (e & 1) + (e & 4 ? 8 : 0);
      const query = isTurned
        ? sum(column, j * FRAGMENT + across, fragmentPlace(0).column)
        : sum(this.row, i * FRAGMENT, fragmentPlace(e & 2).row);
      const key = isTurned ? sum(this.row, i * FRAGMENT) : sum(column, j * FRAGMENT);
      const { row, column: besides } = fragmentPlace(0);
      const shifted = known(isTurned ? `${i} ${j} ${across}` : `${i} ${j} ${rowOf(e)}`, () => {
        const first = b.let(sum(this.place(query), fn("min", key, shape.keys - FRAGMENT)));
        return fn("shr", b.load(this.buffer, fn("shr", first, 5)), sum(fn("and", first, WORD - 1), isTurned ? row : besides));
      });
      return fn("ne", fn("and", shifted, 1 << (isTurned ? 8 * rowOf(e) : across)), 0);
    };
  }

  private single(column: Reg) {
    const { b, isTurned, shape } = this;
    return (i: number, j: number, e: number): Reg => {
      const { row, column: besides } = fragmentPlace(e);
      const [mine, other] = [sum(this.row, i * FRAGMENT, row), sum(column, j * FRAGMENT, besides)];
      const [query, key] = isTurned ? [other, mine] : [mine, other];
      const at = b.let(sum(this.place(query), fn("min", key, shape.keys - 1)));
      return fn("ne", fn("and", fn("shr", b.load(this.buffer, fn("shr", at, 5)), fn("and", at, WORD - 1)), 1), 0);
    };
  }
}
