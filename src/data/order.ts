// Epoch and position → which examples a batch holds.
import { permutation, Random } from "./random.ts";

export interface OrderOptions {
  readonly length: number;
  readonly batchSize: number;
  readonly shuffle: boolean;
  readonly seed: number;
  /** Leave out a last batch that is not full. */
  readonly dropLast: boolean;
}

export class Order {
  readonly batchesPerEpoch: number;
  private readonly options: OrderOptions;
  /** Of this epoch and the next: reading ahead goes over an epoch's end. */
  private readonly shuffled = new Map<number, Uint32Array>();

  constructor(options: OrderOptions) {
    const { length, batchSize, dropLast } = options;
    this.options = options;
    this.batchesPerEpoch = dropLast ? Math.floor(length / batchSize) : Math.ceil(length / batchSize);
  }

  indices(epoch: number, position: number): Uint32Array {
    const { length, batchSize, shuffle } = this.options;
    const from = position * batchSize;
    const to = Math.min(from + batchSize, length);
    return shuffle ? this.orderOf(epoch).slice(from, to) : Uint32Array.from({ length: to - from }, (_, i) => from + i);
  }

  private orderOf(epoch: number): Uint32Array {
    let order = this.shuffled.get(epoch);
    if (!order) {
      order = permutation(this.options.length, new Random(this.options.seed, epoch));
      this.shuffled.set(epoch, order);
      for (const other of this.shuffled.keys()) if (Math.abs(other - epoch) > 1) this.shuffled.delete(other);
    }
    return order;
  }
}
