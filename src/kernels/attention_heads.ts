// Copies heads whose places fall into few sets of a cache, so that each lies in one piece.
import { type Kernel, KernelBuilder, plus, type SimdTarget, times } from "../ir/kernel.ts";
import type { HeadPlaces } from "./attention_shape.ts";
import { shareOut } from "./work.ts";

export interface HeadSizes {
  readonly batch: number;
  readonly heads: number;
  readonly places: number;
  readonly columns: number;
}

/** Places a multiple of this apart, in bytes, meet in a few sets of a first-level cache of 64. */
const FEW_SETS = 2048;
/** Fewer places fit even so. */
const FEW_PLACES = 32;

/** Whether places push each other out of caches. */
export const collides = ({ place }: HeadPlaces, { places }: HeadSizes): boolean => places > FEW_PLACES && (place * 4) % FEW_SETS === 0;

/** Where a copy has them: a line of a cache more than needed for each place. */
export function copiedPlaces({ batch, heads, places, columns }: HeadSizes): HeadPlaces {
  const place = Math.ceil(columns / 16) * 16 + 16;
  return { elements: batch * heads * places * place, from: 0, batch: heads * places * place, head: places * place, place };
}

/** Buffers: heads, their copy. */
export function copyHeadsKernel(name: string, from: HeadPlaces, sizes: HeadSizes, target: SimdTarget, threads: number): Kernel {
  const b = new KernelBuilder(name, target, threads);
  const to = copiedPlaces(sizes);
  const source = b.buffer("heads", 4 * from.elements, "read");
  const copy = b.buffer("copy", 4 * to.elements, "write");
  const { batch, heads, places, columns } = sizes;
  const { lanes } = target;
  const whole = columns - (columns % lanes);
  shareOut(b, [batch * heads, places], ([all, ofHead]) => {
    b.loop(all.from, all.to, 1, (item) => {
      const [one, head] = [b.div(item, heads), b.mod(item, heads)];
      b.loop(ofHead.from, ofHead.to, 1, (place) => {
        const [a, z] = [from, to].map((v) => plus(v.from, times(one, v.batch), times(head, v.head), times(place, v.place)));
        const move = (column: number, count: number): void =>
          b.store(b.load(source, times(plus(a, column), 4), count), copy, times(plus(z, column), 4), count);
        for (let column = 0; column < whole; column += lanes) move(column, lanes);
        if (whole < columns) move(whole, columns - whole);
      });
    });
  });
  return b.build();
}
