// Threefry-2x32 with 20 rounds: a key and counters → random words, on the host.
// Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC 2011.

export const ROTATIONS = [13, 15, 26, 6, 17, 29, 16, 24] as const;
export const PARITY = 0x1bd11bda;
export const ROUNDS = 20;
/** The upper 24 bits of a word are a fraction of [0, 1). */
export const FRACTION = 2 ** -24;

const rotated = (a: number, by: number): number => (a << by) | (a >>> (32 - by));

/** The blocks of counters (first, second), (first + 1, second), …: their first words into `low`, the others into `high` as far as it goes. */
export function encryptRange(key: readonly [number, number], first: number, second: number, low: Uint32Array, high: Uint32Array): void {
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

/** Random words number 0, 1, …, count − 1: the first half of them are the first words of all counters. */
export function randomWords(key: readonly [number, number], count: number): Uint32Array {
  const out = new Uint32Array(count);
  const half = Math.ceil(count / 2);
  encryptRange(key, 0, 0, out.subarray(0, half), out.subarray(half));
  return out;
}
