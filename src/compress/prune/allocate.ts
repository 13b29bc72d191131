// How many weights each layer loses so that the network gets fast: zeros go where they save most predicted time for what they lose.
import { HeddleError } from "../../ir/error.ts";

/** A layer to share zeros out to. */
export interface Allotted {
  /** What is lost with each of its weights, in any order. Layers are compared by it. */
  readonly losses: Float64Array;
  /** What the layer takes when this part of its weights stays. */
  milliseconds(density: number): number;
}

/** Densities that are compared, least first. */
const DENSITIES = Array.from({ length: 40 }, (_, i) => (i + 1) / 40);
/** Half of it cost PP-OCR's recognition network 4 points of its characters, and this half a point. */
const WORTH_OF_SIZE = 2;
const ROUNDS = 60;

/** What of a layer can be chosen, by places in DENSITIES. */
interface Offer {
  readonly size: number;
  readonly loss: readonly number[];
  /** In parts of the network's. */
  readonly cost: readonly number[];
}

/**
 * How many weights of each layer stay; together exactly (1 − sparsity) of all, rounded. `worthOfSize`: what all weights together cost, in parts of what all
 * time does; less makes networks faster, and what they lose harder to learn back.
 */
export function allocateKept(layers: readonly Allotted[], sparsity: number, worthOfSize = WORTH_OF_SIZE): number[] {
  if (!(sparsity >= 0 && sparsity <= 1)) throw new HeddleError("bad-argument", `prune: sparsity ${sparsity}, wanted 0 to 1`);
  const total = layers.reduce((n, { losses }) => n + losses.length, 0);
  const wanted = Math.round(total * (1 - sparsity));
  const sizes = layers.map(({ losses }) => losses.length);
  if (1 - sparsity <= DENSITIES[0]) return evenly(sizes, 1 - sparsity);
  const offers = offersOf(layers, worthOfSize / total);
  const kept = (price: number): number[] => offers.map((offer) => keptAt(offer, best(offer, price)));
  const sum = (counts: readonly number[]): number => counts.reduce((n, count) => n + count, 0);
  // Between these two prices layers change over from too much to too little.
  let [low, high] = [0, 1];
  while (sum(kept(high)) > wanted && high < 1e12) high *= 4;
  for (let round = 0; round < ROUNDS; round++) {
    const middle = (low + high) / 2;
    if (sum(kept(middle)) > wanted) low = middle;
    else high = middle;
  }
  return exactly(wanted, kept(high), sizes, kept(low));
}

function offersOf(layers: readonly Allotted[], worth: number): Offer[] {
  const dense = layers.reduce((ms, layer) => ms + layer.milliseconds(1), 0);
  return layers.map(({ losses, milliseconds }) => {
    const sorted = losses.slice().sort();
    const before = new Float64Array(sorted.length + 1);
    for (const [i, loss] of sorted.entries()) before[i + 1] = before[i] + loss;
    const size = sorted.length;
    return {
      size,
      loss: DENSITIES.map((density) => before[size - Math.round(density * size)]),
      cost: DENSITIES.map((density) => (dense > 0 ? milliseconds(density) / dense : 0) + worth * density * size),
    };
  });
}

const keptAt = ({ size }: Offer, place: number): number => Math.round(DENSITIES[place] * size);

/** Where loss + price · cost is least. */
function best({ loss, cost }: Offer, price: number): number {
  let place = 0;
  for (let i = 1; i < loss.length; i++) if (loss[i] + price * cost[i] <= loss[place] + price * cost[place]) place = i;
  return place;
}

/** Adds to `few` what is missing: first up to `many` of each layer, then up to all of its weights. */
function exactly(wanted: number, few: readonly number[], all: readonly number[], many: readonly number[]): number[] {
  const counts = [...few];
  let missing = wanted - counts.reduce((n, count) => n + count, 0);
  for (const most of [many, all])
    for (const [i, count] of counts.entries()) {
      const more = Math.min(Math.max(0, most[i] - count), missing);
      counts[i] = count + more;
      missing -= more;
    }
  return counts;
}

/** The same part of each layer. */
function evenly(sizes: readonly number[], part: number): number[] {
  let [before, kept] = [0, 0];
  return sizes.map((size) => {
    before += size;
    const count = Math.round(before * part) - kept;
    kept += count;
    return count;
  });
}
