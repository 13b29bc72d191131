// Values of a sparse matrix into the order in which a kernel meets them: so that one copy serves products in both directions.
import { type Int, type Kernel, KernelBuilder, plus, type SimdTarget, times } from "../ir/kernel.ts";

/** Loads and stores written out one after another. */
const UNROLL = 4;

/** Buffers: values, places, output. output[i] = values[places[i]], zero where the place is negative. */
export function sparseOrderKernel(
  name: string,
  shape: { readonly nonzeros: number; readonly length: number },
  target: SimdTarget,
  threads: number,
): Kernel {
  const { nonzeros, length } = shape;
  const { lanes } = target;
  const b = new KernelBuilder(name, target, threads);
  const values = b.buffer("values", 4 * nonzeros, "read");
  const places = b.buffer("places", 4 * length, "read");
  const output = b.buffer("output", 4 * length, "write");
  const some = (at: Int, count: number): void => {
    const index = b.load(places, times(at, 4), count, "i32");
    const isFilled = b.op("ilt", index, b.i32(0));
    const found = b.gather(values, 0, index, nonzeros, count);
    b.store(b.op("andnot", isFilled, found), output, times(at, 4), count);
  };
  const step = UNROLL * lanes;
  const whole = Math.floor(length / step);
  b.parallel(whole, (part) => {
    for (let u = 0; u < UNROLL; u++) some(plus(times(part, step), u * lanes), lanes);
  });
  const rest = length - whole * step;
  if (rest > 0)
    b.parallel(1, () => {
      for (let at = whole * step; at < length; at += lanes) some(at, Math.min(lanes, length - at));
    });
  return b.build();
}
