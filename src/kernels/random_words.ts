// Threefry-2x32 with counters in lanes: a key → random words, or fractions of [0, 1).
import { type Int, type Kernel, KernelBuilder, plus, type SimdTarget, times, type Vec } from "../ir/kernel.ts";
import { FRACTION, PARITY, ROTATIONS, ROUNDS } from "../ir/threefry.ts";

export interface RandomWordsShape {
  readonly count: number;
  readonly isFraction: boolean;
}

/** Buffers: key, output. The first words of all counters come first, then the second ones. */
export function randomWordsKernel(name: string, { count, isFraction }: RandomWordsShape, target: SimdTarget, threads: number): Kernel {
  const k = new KernelBuilder(name, target, threads);
  const key = k.buffer("key", 8, "read");
  const output = k.buffer("output", count * 4, "readwrite");
  const half = Math.ceil(count / 2);
  const put = (word: Vec, at: Int, lanes: number): void => {
    if (lanes === 0) return;
    if (!isFraction) k.store(word, output, at, lanes, "i32");
    else k.store(k.op("mul", k.op("i2f", shifted(k, "iushr", word, 8)), k.f32(FRACTION)), output, at, lanes);
  };
  /** The words of `low` counters from `first` on; of the last the second word may be one too many. */
  const block = (first: Int, low: number, high: number): void => {
    const [a, b] = encrypt(k, [k.splat(key, 0, "i32"), k.splat(key, 4, "i32")], k.iota(first));
    put(a, times(first, 4), low);
    put(b, plus(times(first, 4), half * 4), high);
  };
  const whole = Math.floor((count - half) / k.lanes);
  const done = whole * k.lanes;
  if (whole > 0) k.parallel(whole, (v) => block(times(v, k.lanes), k.lanes, k.lanes));
  if (half > done) k.parallel(1, () => block(done, half - done, count - half - done));
  return k.build();
}

const shifted = (k: KernelBuilder, op: "ishl" | "iushr", a: Vec, by: number): Vec => k.op(op, a, undefined, undefined, undefined, by);

/** Both words of counters (first, 0). */
function encrypt(k: KernelBuilder, [k0, k1]: readonly [Vec, Vec], first: Vec): [Vec, Vec] {
  const keys = [k0, k1, k.op("xor", k.op("xor", k0, k1), k.i32(PARITY))];
  let [a, b] = [k.op("iadd", first, k0), k1];
  for (let round = 0; round < ROUNDS; round++) {
    const by = ROTATIONS[round % ROTATIONS.length];
    a = k.op("iadd", a, b);
    b = k.op("xor", k.op("or", shifted(k, "ishl", b, by), shifted(k, "iushr", b, 32 - by)), a);
    if (round % 4 !== 3) continue;
    const turn = (round + 1) / 4;
    a = k.op("iadd", a, keys[turn % 3]);
    b = k.op("iadd", b, k.op("iadd", keys[(turn + 1) % 3], k.i32(turn)));
  }
  return [a, b];
}
