// Threefry-2x32 with a counter a thread: a key → random words, or fractions of [0, 1); the same bits as on the host.
import { bits, cast, fn, group, product, type Reg, SimtBuilder, type SimtKernel, type SimtTarget, sum, thread } from "../../ir/simt.ts";
import { FRACTION, PARITY, ROTATIONS, ROUNDS } from "../../ir/threefry.ts";

export interface RandomWordsShape {
  readonly count: number;
  readonly isFraction: boolean;
}

const THREADS = 256;

const groupsOf = (count: number): number => Math.ceil(Math.ceil(count / 2) / THREADS);
/** Whether one row of workgroups does. */
export const fitsRandomWords = ({ count }: RandomWordsShape, { maxGroups }: SimtTarget): boolean => groupsOf(count) <= maxGroups;

/** Buffers: key, output. The first words of all counters come first, then the second ones. */
export function randomWordsKernel(name: string, { count, isFraction }: RandomWordsShape, target: SimtTarget): SimtKernel {
  const half = Math.ceil(count / 2);
  const b = new SimtBuilder(name, target);
  const key = b.buffer("key", "u32", 2, "read");
  const output = b.buffer("output", isFraction ? "f32" : "u32", count, "write");
  const put = (at: Reg, word: Reg): void => b.store(output, at, isFraction ? fn("mul", cast("f32", fn("shr", word, 8)), FRACTION) : word);
  const at = b.let(sum(product(group(), THREADS), thread()));
  b.when(fn("lt", at, half), () => {
    const [low, high] = encrypt(b, key, bits("u32", at));
    put(at, low);
    b.when(fn("lt", at, count - half), () => put(sum(at, half), high));
  });
  return b.build([THREADS, 1, 1], [groupsOf(count), 1, 1]);
}

const zero: Reg = { k: "num", type: "i32", value: 0 };
const one: Reg = { k: "num", type: "i32", value: 1 };
const rotated = (a: Reg, by: number): Reg => fn("or", fn("shl", a, by), fn("shr", a, 32 - by));

/** Both words of counter (first, 0). */
export function encrypt(b: SimtBuilder, key: number, first: Reg): [Reg, Reg] {
  const [k0, k1] = [b.let(b.load(key, zero)), b.let(b.load(key, one))];
  const keys = [k0, k1, b.let(fn("xor", fn("xor", k0, k1), PARITY))];
  let [low, high] = [b.let(fn("add", first, k0)), k1];
  for (let round = 0; round < ROUNDS; round++) {
    low = b.let(fn("add", low, high));
    high = b.let(fn("xor", rotated(high, ROTATIONS[round % ROTATIONS.length]), low));
    if (round % 4 !== 3) continue;
    const turn = (round + 1) / 4;
    low = b.let(fn("add", low, keys[turn % 3]));
    high = b.let(fn("add", fn("add", high, keys[(turn + 1) % 3]), turn));
  }
  return [low, high];
}
