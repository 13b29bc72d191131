// Random words and new keys as values of a graph, and the same bits on the host.
import type { Value } from "../ir/graph.ts";
import { encryptRange, PARITY, ROTATIONS, ROUNDS } from "../ir/threefry.ts";
import { ints, op, scalar } from "./build.ts";

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

/** Random words number 0, 1, …, count − 1 as a value (count), from a key (2). */
export const randomWordsValue = (key: Value, count: number): Value => op("RandomWords", [key], { count });

/** The same as fractions of [0, 1). */
export const randomFractionsValue = (key: Value, count: number): Value => op("RandomWords", [key], { count, fractions: 1 });

/** Counters of drawing have 0 here: folding is something else. */
const FOLD = 1;

/** A key of a key and a number. */
export const foldWords = (key: readonly [number, number], n: number): [number, number] => encrypted(key, [n, FOLD]);

/** The same as a value (2), of values (2) and (). */
export function foldWordsValue(key: Value, n: Value): Value {
  const lists = encryptValues(key, [n, word(FOLD)]).map((w) => op("Unsqueeze", [w, ints(0)]));
  return op("Concat", lists, { axis: 0 });
}
