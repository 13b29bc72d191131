// Look-ups among 64 columns, whose low and high halves lie apart, each in two registers: AVX-512.
import { type KernelBuilder, plus, times, type Vec } from "../ir/kernel.ts";
import type { Lookups } from "./sparse_lookup.ts";
import type { Halves } from "./sparse_slices.ts";
import { WORDS_BUNDLE } from "./sparse_window.ts";

export function wideLookups(b: KernelBuilder, { plane, isTwice }: Halves): Lookups {
  const bytes = 4 * b.lanes;
  let patterns: readonly Vec[] = [];
  return {
    prepare: () => {
      // Of a lane's four bytes that of the step, four times.
      const first = b.op("imul", b.op("and", b.iota(0), b.i32(3)), b.i32(0x04040404));
      patterns = Array.from({ length: WORDS_BUNDLE }, (_, s) => b.op("iadd", first, b.i32(0x01010101 * s)));
    },
    table: (vector, start) => {
      const [from, low, high] = isTwice ? [times(start, bytes), 0, 2 * bytes] : [times(start, bytes / 2), 0, bytes];
      return [low, high, plane + low, plane + high].map((at) => b.load(vector, plus(from, at)));
    },
    step: (packed, s) => {
      const index = b.op("bytes", packed, patterns[s]);
      return {
        sign: () => index,
        found: ([low0, low1, high0, high1]) => {
          b.op("lookuplow", low0, low1, index, index);
          return b.op("lookuphigh", high0, high1, index, index);
        },
      };
    },
  };
}
