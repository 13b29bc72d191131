// Sparse products that follow each other hand their activations on in tiles, which neither has to turn around.
import type { Value } from "../../ir/graph.ts";
import { readsOf, type Step, type TiledProduct } from "../step.ts";

/** The same steps. `owner` of a value: the one whose memory it has; `isKept`: it is needed when all steps are done. */
export function passInTiles(steps: readonly Step[], owner: (v: Value) => Value, isKept: (v: Value) => boolean): Step[] {
  const readers = new Map<Value, Step[]>();
  for (const step of steps) for (const v of readsOf(step).map(owner)) readers.set(v, [...(readers.get(v) ?? []), step]);
  const handed = new Set<Value>();
  for (const step of steps) {
    const product = productOf(step);
    const value = product?.result;
    if (!value || isKept(value)) continue;
    const following = readers.get(value) ?? [];
    // A step that reads it twice, for a sum of it and the product, is there twice.
    const isAlone = new Set(following).size === following.length;
    if (isAlone && following.length > 0 && following.every((next) => takes(productOf(next), value, product))) handed.add(value);
  }

  function takes(next: TiledProduct | null, value: Value, { n, rows }: TiledProduct): boolean {
    return next?.operand != null && owner(next.operand) === value && next.n === n && next.depth === rows;
  }

  return steps.map((step) => {
    const product = productOf(step);
    if (!product) return step;
    const takesTiles = product.operand !== null && handed.has(owner(product.operand));
    const givesTiles = product.result !== null && handed.has(product.result);
    if (!step.calls || !(takesTiles || givesTiles)) return step;
    return { ...step, calls: [...step.calls.slice(0, -1), product.again({ takesTiles, givesTiles })] };
  });
}

/** The last of a step's calls: images may be given room around them before. */
const productOf = ({ calls }: Step): TiledProduct | null => calls?.at(-1)?.tiled ?? null;
