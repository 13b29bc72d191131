// EMA: parameters' moving averages, which often do better than the parameters themselves.
import type { TensorData } from "../ir/tensor.ts";
import { evaluate, fromData, Parameter, tensor } from "../tensor/index.ts";

export class EMA {
  readonly averages: readonly Parameter[];
  /** Updates so far. */
  private readonly count = new Parameter(tensor(0, "i32"), { name: "n_averaged", trainable: false });

  /**
   * `decay`: how slowly the averages move once there is something to average; update number t takes (1 + t) / (10 + t) where that is less, so that the first weights,
   * which are random, are soon forgotten. Running statistics of normalisations belong to the weights that they were counted with: give them too.
   */
  constructor(
    private readonly parameters: readonly Parameter[],
    private readonly decay = 0.999,
  ) {
    this.averages = parameters.map((p) => new Parameter(p.value, { name: `${p.name}.ema`, trainable: false }));
  }

  /** All that it holds. */
  get state(): readonly Parameter[] {
    return [...this.averages, this.count];
  }

  /** To be called after each step, in the same compiled function. */
  update(): void {
    const count = this.count.value.cast("f32");
    const part = count.add(1).div(count.add(10)).minimum(this.decay).mul(-1).add(1); // biome-ignore format: a formula
    for (const [i, average] of this.averages.entries())
      average.value = average.value.add(this.parameters[i].value.sub(average.value).mul(part)).cast(average.dtype);
    this.count.value = this.count.value.add(1);
  }

  /** Runs `f` while the parameters hold their averages. */
  async with<T>(f: () => Promise<T> | T): Promise<T> {
    const own = this.parameters.map((p) => p.value);
    for (const [i, parameter] of this.parameters.entries()) parameter.value = this.averages[i].value;
    try {
      return await f();
    } finally {
      for (const [i, parameter] of this.parameters.entries()) parameter.value = own[i];
    }
  }

  /** By the parameters' names, and how many updates there were. */
  async stateDict(): Promise<Record<string, TensorData>> {
    const entries = [...this.entries()].map(([key, held]) => [key, held.value] as const);
    await evaluate(...entries.map(([, value]) => value));
    return Object.fromEntries(await Promise.all(entries.map(async ([key, value]) => [key, await value.tensorData()] as const)));
  }
  loadStateDict(dict: Readonly<Record<string, TensorData>>): void {
    for (const [key, held] of this.entries()) if (dict[key]) held.value = fromData(dict[key]);
  }

  private *entries(): Iterable<[key: string, held: Parameter]> {
    for (const [i, average] of this.averages.entries()) yield [this.parameters[i].name || `${i}`, average];
    yield [this.count.name, this.count];
  }
}
