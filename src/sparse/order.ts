// Stable sorting of nonzeros by integer keys, in linear time.

const DIGIT_BITS = 16;

/** The order in which `key` (each below `bound`) does not decrease; equal keys stay in the order they had in `from` (by default 0, 1, …). */
export function stableOrder(key: Uint32Array, bound: number, from?: Uint32Array): Uint32Array {
  let order = from ?? new Uint32Array(key.length).map((_, i) => i);
  for (let shift = 0; shift < 32 && 2 ** shift < bound; shift += DIGIT_BITS) {
    const digits = Math.min(2 ** DIGIT_BITS, Math.ceil(bound / 2 ** shift));
    order = sortByDigit(key, order, shift, digits);
  }
  return order;
}

function sortByDigit(key: Uint32Array, order: Uint32Array, shift: number, digits: number): Uint32Array {
  const mask = 2 ** DIGIT_BITS - 1;
  const next = new Uint32Array(digits + 1);
  for (let i = 0; i < key.length; i++) next[((key[i] >>> shift) & mask) + 1]++;
  for (let d = 0; d < digits; d++) next[d + 1] += next[d];
  const sorted = new Uint32Array(order.length);
  for (let i = 0; i < order.length; i++) sorted[next[(key[order[i]] >>> shift) & mask]++] = order[i];
  return sorted;
}

/** For keys that do not decrease: where each of 0 … count - 1 starts, and the end. */
export function startsOf(key: Uint32Array, count: number): Uint32Array {
  const pointers = new Uint32Array(count + 1);
  for (let i = 0; i < key.length; i++) pointers[key[i] + 1]++;
  for (let k = 0; k < count; k++) pointers[k + 1] += pointers[k];
  return pointers;
}

/** `array[order[0]], array[order[1]], …` */
export function take(array: Uint32Array, order: Uint32Array): Uint32Array {
  const out = new Uint32Array(order.length);
  for (let i = 0; i < order.length; i++) out[i] = array[order[i]];
  return out;
}
