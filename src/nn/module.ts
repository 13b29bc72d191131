// Module: layers that hold parameters and other layers, which names as PyTorch's reach: state dicts go both ways.
import { HeddleError } from "../ir/error.ts";
import type { TensorData } from "../ir/tensor.ts";
import { evaluate, fromData, Parameter } from "../tensor/index.ts";

/** Numbers by PyTorch's keys. */
export type StateDict = Readonly<Record<string, TensorData>>;

/** What a module is made of, by the last part of its key. */
export type Member = readonly [name: string, part: Parameter | Module];

export interface LoadOptions {
  /** Whether all keys must be there and no others. Default: true. */
  readonly strict?: boolean;
}

/** runningMean → running_mean: PyTorch's keys. */
const snakeCase = (name: string): string => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);

function* parts(name: string, held: unknown): Iterable<Member> {
  if (held instanceof Parameter || held instanceof Module) yield [name, held];
  else if (Array.isArray(held)) for (const [i, part] of held.entries()) yield* parts(`${name}.${i}`, part);
}

/** Subclasses keep parameters and modules in properties, or lists in properties, and have a method `forward`. */
export abstract class Module {
  /** Whether dropout drops and statistics are those of the batch. It counts while a compiled function is traced. */
  training = true;

  /** Parameters and modules right in this one. */
  *members(): Iterable<Member> {
    for (const [name, held] of Object.entries(this)) yield* parts(snakeCase(name), held);
  }

  /** All parameters below, and what optimizers do not change: running statistics, frozen weights. */
  *namedState(prefix = ""): Iterable<[key: string, parameter: Parameter]> {
    for (const [name, part] of this.members()) {
      if (part instanceof Module) yield* part.namedState(`${prefix}${name}.`);
      else yield [prefix + name, part];
    }
  }

  /** What optimizers change, each parameter once. It gets its key as a name if it has none. */
  namedParameters(): [key: string, parameter: Parameter][] {
    const seen = new Set<Parameter>();
    const named: [string, Parameter][] = [];
    for (const [key, parameter] of this.namedState()) {
      if (!parameter.trainable || seen.has(parameter)) continue;
      seen.add(parameter);
      parameter.name ||= key;
      named.push([key, parameter]);
    }
    return named;
  }
  parameters(): Parameter[] {
    return this.namedParameters().map(([, parameter]) => parameter);
  }

  /** This module and all below. */
  *modules(): Iterable<Module> {
    yield this;
    for (const [, part] of this.members()) if (part instanceof Module) yield* part.modules();
  }

  /** What is learned and what is counted, as PyTorch saves it. */
  async stateDict(): Promise<Record<string, TensorData>> {
    const entries = [...this.namedState()].map(([key, parameter]) => [key, parameter.value] as const);
    await evaluate(...entries.map(([, value]) => value));
    return Object.fromEntries(await Promise.all(entries.map(async ([key, value]) => [key, await value.tensorData()] as const)));
  }

  /** Throws HeddleError ("bad-input") for keys and shapes that do not fit; then nothing has changed. */
  loadStateDict(dict: StateDict, { strict = true }: LoadOptions = {}): void {
    const own = new Map(this.namedState());
    const missing = [...own.keys()].filter((key) => !(key in dict));
    const unknown = Object.keys(dict).filter((key) => !own.has(key));
    if (strict && (missing.length || unknown.length)) throw new HeddleError("bad-input", mismatch(missing, unknown));
    const fitting = [...own].filter(([key]) => key in dict);
    for (const [key, { shape }] of fitting)
      if (shape.join() !== dict[key].shape.join())
        throw new HeddleError("bad-input", `loadStateDict: ${key} has shape (${dict[key].shape}), wanted (${shape})`);
    for (const [key, parameter] of fitting) parameter.value = fromData(dict[key]).cast(parameter.dtype);
  }

  train(training = true): this {
    for (const module of this.modules()) module.training = training;
    return this;
  }
  eval(): this {
    return this.train(false);
  }
}

function mismatch(missing: readonly string[], unknown: readonly string[]): string {
  const some = (keys: readonly string[]) => `${keys.slice(0, 5).join(", ")}${keys.length > 5 ? `, … (${keys.length})` : ""}`;
  const parts = [missing.length && `lacks ${some(missing)}`, unknown.length && `has ${some(unknown)}, which the module does not`];
  return `loadStateDict: the dictionary ${parts.filter(Boolean).join(" and ")}; strict: false takes what fits`;
}
