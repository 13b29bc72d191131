// Threefry-2x32 with 20 rounds: a key and a counter → 64 random bits, on the host and as values of a graph, the same bits from both.
// Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
import type { Value } from "../ir/graph.ts";
import { ints, op, scalar } from "./build.ts";

const ROTATIONS = [13, 15, 26, 6, 17, 29, 16, 24] as const;
const PARITY = 0x1bd11bda;
const ROUNDS = 20;

/** The words of arithmetic modulo 2^32, on numbers or on values. */
interface Words<T> {
  add(a: T, b: T): T;
  xor(a: T, b: T): T;
  rotate(a: T, by: number): T;
  constant(n: number): T;
}

function encrypt<T>({ add, xor, rotate, constant }: Words<T>, key: readonly [T, T], counter: readonly [T, T]): [T, T] {
  const keys = [key[0], key[1], xor(xor(key[0], key[1]), constant(PARITY))];
  let [a, b] = [add(counter[0], keys[0]), add(counter[1], keys[1])];
  for (let round = 0; round < ROUNDS; round++) {
    a = add(a, b);
    b = xor(rotate(b, ROTATIONS[round % 8]), a);
    if (round % 4 !== 3) continue;
    const turn = (round + 1) / 4;
    a = add(a, keys[turn % 3]);
    b = add(b, add(keys[(turn + 1) % 3], constant(turn)));
  }
  return [a, b];
}

const onNumbers: Words<number> = {
  add: (a, b) => (a + b) >>> 0,
  xor: (a, b) => (a ^ b) >>> 0,
  rotate: (a, by) => ((a << by) | (a >>> (32 - by))) >>> 0,
  constant: (n) => n,
};

/** One block: 64 random bits. */
export const encrypted = (key: readonly [number, number], counter: readonly [number, number]): [number, number] =>
  encrypt(onNumbers, key, counter);

const word = (n: number): Value => scalar("u32", n);

const onValues: Words<Value> = {
  add: (a, b) => op("Add", [a, b]),
  xor: (a, b) => op("BitwiseXor", [a, b]),
  rotate: (a, by) =>
    op("BitwiseOr", [op("BitShift", [a, word(by)], { direction: "LEFT" }), op("BitShift", [a, word(32 - by)], { direction: "RIGHT" })]),
  constant: word,
};

/** Random words number 0, 1, …, count − 1: the first half of them are the first words of all counters. */
export function randomWords(key: readonly [number, number], count: number): Uint32Array {
  const out = new Uint32Array(count);
  const half = Math.ceil(count / 2);
  for (let i = 0; i < half; i++) {
    const [a, b] = encrypt(onNumbers, key, [i, 0]);
    out[i] = a;
    if (half + i < count) out[half + i] = b;
  }
  return out;
}

/** The same words as a value (count), from a key (2). */
export function randomWordsValue(key: Value, count: number): Value {
  const part = (i: number) => op("Gather", [key, scalar("i64", i)]);
  const half = Math.ceil(count / 2);
  const counters = op("Range", [word(0), word(half), word(1)]);
  const [a, b] = encrypt(onValues, [part(0), part(1)], [counters, word(0)]);
  const both = op("Concat", [a, b], { axis: 0 });
  return 2 * half === count ? both : op("Slice", [both, ints(0), ints(count)]);
}

/** Counters of drawing have 0 here: folding is something else. */
const FOLD = 1;

/** A key of a key and a number. */
export const foldWords = (key: readonly [number, number], n: number): [number, number] => encrypt(onNumbers, key, [n >>> 0, FOLD]);

/** The same as a value (2), of values (2) and (). */
export function foldWordsValue(key: Value, n: Value): Value {
  const part = (i: number) => op("Gather", [key, scalar("i64", i)]);
  const words = encrypt(onValues, [part(0), part(1)], [n, word(FOLD)]);
  const lists = words.map((w) => op("Unsqueeze", [w, ints(0)]));
  return op("Concat", lists, { axis: 0 });
}
