// Threefry-2x32 with 20 rounds: a key and a counter → 64 random bits, on the host and as values of a graph, the same bits from both.
// Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
import type { Value } from "../ir/graph.ts";
import { ints, op, scalar } from "./build.ts";

const ROTATIONS = [13, 15, 26, 6, 17, 29, 16, 24] as const;
const PARITY = 0x1bd11bda;
const ROUNDS = 20;

const rotated = (a: number, by: number): number => (a << by) | (a >>> (32 - by));

/** The blocks of counters (first, second), (first + 1, second), …: their first words into `low`, the others into `high` as far as it goes. */
function encryptRange(key: readonly [number, number], first: number, second: number, low: Uint32Array, high: Uint32Array): void {
  const keys = [key[0] | 0, key[1] | 0, key[0] ^ key[1] ^ PARITY];
  for (let i = 0; i < low.length; i++) {
    let a = (first + i + keys[0]) | 0;
    let b = (second + keys[1]) | 0;
    for (let turn = 1; turn <= ROUNDS / 4; turn++) {
      for (let round = turn & 1 ? 0 : 4, end = round + 4; round < end; round++) {
        a = (a + b) | 0;
        b = rotated(b, ROTATIONS[round]) ^ a;
      }
      a = (a + keys[turn % 3]) | 0;
      b = (b + keys[(turn + 1) % 3] + turn) | 0;
    }
    low[i] = a;
    if (i < high.length) high[i] = b;
  }
}

/** One block: 64 random bits. */
export function encrypted(key: readonly [number, number], counter: readonly [number, number]): [number, number] {
  const [low, high] = [new Uint32Array(1), new Uint32Array(1)];
  encryptRange(key, counter[0], counter[1], low, high);
  return [low[0], high[0]];
}

const word = (n: number): Value => scalar("u32", n);

const add = (a: Value, b: Value): Value => op("Add", [a, b]);
const xor = (a: Value, b: Value): Value => op("BitwiseXor", [a, b]);
const rotate = (a: Value, by: number): Value =>
  op("BitwiseOr", [op("BitShift", [a, word(by)], { direction: "LEFT" }), op("BitShift", [a, word(32 - by)], { direction: "RIGHT" })]);

function encryptValues(key: Value, counter: readonly [Value, Value]): [Value, Value] {
  const [k0, k1] = [0, 1].map((i) => op("Gather", [key, scalar("i64", i)]));
  const keys = [k0, k1, xor(xor(k0, k1), word(PARITY))];
  let [a, b] = [add(counter[0], keys[0]), add(counter[1], keys[1])];
  for (let round = 0; round < ROUNDS; round++) {
    a = add(a, b);
    b = xor(rotate(b, ROTATIONS[round % 8]), a);
    if (round % 4 !== 3) continue;
    const turn = (round + 1) / 4;
    a = add(a, keys[turn % 3]);
    b = add(b, add(keys[(turn + 1) % 3], word(turn)));
  }
  return [a, b];
}

/** Random words number 0, 1, …, count − 1: the first half of them are the first words of all counters. */
export function randomWords(key: readonly [number, number], count: number): Uint32Array {
  const out = new Uint32Array(count);
  const half = Math.ceil(count / 2);
  encryptRange(key, 0, 0, out.subarray(0, half), out.subarray(half));
  return out;
}

/** The same words as a value (count), from a key (2). */
export function randomWordsValue(key: Value, count: number): Value {
  const half = Math.ceil(count / 2);
  const counters = op("Range", [word(0), word(half), word(1)]);
  const both = op("Concat", encryptValues(key, [counters, word(0)]), { axis: 0 });
  return 2 * half === count ? both : op("Slice", [both, ints(0), ints(count)]);
}

/** Counters of drawing have 0 here: folding is something else. */
const FOLD = 1;

/** A key of a key and a number. */
export const foldWords = (key: readonly [number, number], n: number): [number, number] => encrypted(key, [n, FOLD]);

/** The same as a value (2), of values (2) and (). */
export function foldWordsValue(key: Value, n: Value): Value {
  const lists = encryptValues(key, [n, word(FOLD)]).map((w) => op("Unsqueeze", [w, ints(0)]));
  return op("Concat", lists, { axis: 0 });
}
