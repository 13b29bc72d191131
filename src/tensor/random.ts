// Random numbers from explicit keys: the same key gives the same numbers, on every device, inside of compiled functions and outside.
import type { DType } from "../ir/dtype.ts";
import { elementCount } from "../ir/tensor.ts";
import { FRACTION, randomWords } from "../ir/threefry.ts";
import { cast, ints, op, reshape, scalar } from "./build.ts";
import { fromArray } from "./create.ts";
import type { Dims } from "./shapes.ts";
import { type Tensor, tensorFrom, toValue } from "./tensor.ts";
import { foldWords, foldWordsValue, randomFractionsValue, randomWordsValue } from "./threefry.ts";
import { currentTrace, refuse, storageOf } from "./trace.ts";

/** Two words. Use a key once: split() makes new ones of it. */
export type Key = Tensor<[2], "u32">;

/** A key of a seed. */
export function key(seed: number): Key {
  if (!Number.isSafeInteger(seed) || seed < 0) refuse(`key: the seed is ${seed}, wanted a whole number from 0 to 2^53`);
  return fromArray(Uint32Array.of(Math.floor(seed / 2 ** 32), seed >>> 0), [2]) as Key;
}

/** The key's words where they are known and nothing is being traced: then the host draws. */
function knownWords(from: Tensor): [number, number] | null {
  if (from.dtype !== "u32" || from.shape.join() !== "2") refuse(`random: a key is u32[2], got ${from.dtype}[${from.shape}]`);
  toValue(from); // refuses a disposed one
  const data = currentTrace() ? null : storageOf(from.handle.value)?.data?.data;
  return data ? [Number(data[0]), Number(data[1])] : null;
}

/** Random words (all 32 bits) of a shape. */
export function bits<const S extends Dims>(from: Tensor, shape: S): Tensor<S, "u32"> {
  const words = knownWords(from);
  if (words) return fromArray(randomWords(words, elementCount(shape)), shape, "u32");
  return tensorFrom(reshape(randomWordsValue(toValue(from), elementCount(shape)), shape));
}

/** New keys. */
export function split(from: Tensor, count = 2): Key[] {
  const words = bits(from, [count, 2]);
  return Array.from({ length: count }, (_, i) => keyAt(words, i));
}

function keyAt(words: Tensor<readonly [number, 2], "u32">, i: number): Key {
  const known = currentTrace() ? null : storageOf(words.handle.value)?.data?.data;
  if (!known) return words.slice(i) as Tensor as Key;
  return fromArray(Uint32Array.of(Number(known[2 * i]), Number(known[2 * i + 1])), [2]) as Key;
}

/** The key of step or place number `n`, which may be a tensor of one integer (a counter that is a parameter, inside of a compiled function). */
export function fold(from: Tensor, n: Tensor | number): Key {
  const words = typeof n === "number" ? knownWords(from) : null;
  if (words && typeof n === "number") return fromArray(Uint32Array.from(foldWords(words, n)), [2]) as Key;
  const number = typeof n === "number" ? scalar("u32", n) : reshape(cast(toValue(n), "u32"), []);
  return tensorFrom(foldWordsValue(toValue(from), number));
}

/** Evenly in [low, high), in steps of (high − low) / 2^24. */
export function uniform<const S extends Dims>(from: Tensor, shape: S, low = 0, high = 1): Tensor<S, "f32"> {
  const words = knownWords(from);
  if (words)
    return hostFloats(randomWords(words, elementCount(shape)), shape, (w) =>
      Math.fround(low + Math.fround((high - low) * (w >>> 8) * FRACTION)),
    );
  const unit = randomFractionsValue(toValue(from), elementCount(shape));
  const scaled = low === 0 && high === 1 ? unit : op("Add", [op("Mul", [unit, scalar("f32", high - low)]), scalar("f32", low)]);
  return tensorFrom(reshape(scaled, shape));
}

/** Normally distributed: √(−2 ln u) · cos 2πv of two uniform numbers (Box and Muller). Host and devices agree but for rounding. */
export function normal<const S extends Dims>(from: Tensor, shape: S, mean = 0, deviation = 1): Tensor<S, "f32"> {
  const count = elementCount(shape);
  const words = knownWords(from);
  if (words) {
    const drawn = randomWords(words, 2 * count);
    return hostFloats(drawn.subarray(0, count), shape, (w, i) => {
      const radius = Math.sqrt(-2 * Math.log(1 - (w >>> 8) * FRACTION));
      return mean + deviation * radius * Math.cos(2 * Math.PI * (drawn[count + i] >>> 8) * FRACTION);
    });
  }
  const unit = randomFractionsValue(toValue(from), 2 * count);
  const [u, v] = [0, count].map((start) => op("Slice", [unit, ints(start), ints(start + count)]));
  const radius = op("Sqrt", [op("Mul", [op("Log", [op("Sub", [scalar("f32", 1), u])]), scalar("f32", -2)])]);
  const turned = op("Cos", [op("Mul", [v, scalar("f32", 2 * Math.PI)])]);
  const standard = op("Mul", [radius, turned]);
  const moved = op("Add", [op("Mul", [standard, scalar("f32", deviation)]), scalar("f32", mean)]);
  return tensorFrom(reshape(moved, shape));
}

/** True with probability `p`. */
export const bernoulli = <const S extends Dims>(from: Tensor, shape: S, p = 0.5): Tensor<S, "bool"> =>
  uniform(from, shape).lt(p) as Tensor as Tensor<S, "bool">;

/** The numbers 0 to count − 1 in random order. Outside of compiled functions only. */
export function permutation(from: Tensor, count: number): Tensor<[number], "i32"> {
  const words = knownWords(from);
  if (!words) return refuse("permutation: it is drawn on the host, and the key is not known there; call it outside of jit()");
  const drawn = randomWords(words, count);
  const order = Int32Array.from({ length: count }, (_, i) => i);
  for (let i = count - 1; i > 0; i--) {
    const j = Math.floor((drawn[i] / 2 ** 32) * (i + 1));
    [order[i], order[j]] = [order[j], order[i]];
  }
  return fromArray(order, [count]);
}

function hostFloats<S extends Dims>(words: Uint32Array, shape: S, f: (word: number, i: number) => number): Tensor<S, "f32"> {
  const floats = new Float32Array(words.length);
  for (let i = 0; i < words.length; i++) floats[i] = f(words[i], i); // Float32Array.from takes thrice as long
  return fromArray(floats, shape, "f32");
}

/** Zero with probability `p`, and the rest divided by 1 − p, so that the mean stays. */
export function dropout<S extends Dims, D extends DType>(x: Tensor<S, D>, from: Tensor, p = 0.5): Tensor<S, D> {
  if (!(p >= 0 && p < 1)) refuse(`dropout: p is ${p}, wanted 0 ≤ p < 1`);
  if (p === 0) return x;
  const kept = uniform(from, x.shape).ge(p);
  return kept.where(x.div(1 - p), 0) as Tensor as Tensor<S, D>; // the shapes are equal
}
