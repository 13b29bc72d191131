// LSTM and GRU: (N, T, in) → (N, T, hidden), one direction or both.
import { concat, type Key, Parameter, recurrent, stack, type Tensor } from "../tensor/index.ts";
import { fanInUniform } from "./init.ts";
import { type Member, Module } from "./module.ts";
import { drawKeys, type Randomness } from "./random_stream.ts";

export interface RecurrentOptions {
  readonly key: Randomness;
  /** Layers on top of each other. */
  readonly layers?: number;
  /** Whether a second layer reads from the end; both outputs stand side by side. */
  readonly bidirectional?: boolean;
}

/** What one direction of one layer keeps from step to step: (N, hidden) each. */
type State = readonly Tensor[];

export interface RecurrentOutput {
  /** Of the last layer: (N, T, hidden), or twice as wide in both directions. */
  readonly output: Tensor;
  /** After the last step: (layers · directions, N, hidden) each; of an LSTM hidden and cell. */
  readonly state: State;
}

interface Direction {
  readonly weightIh: Parameter;
  readonly weightHh: Parameter;
  readonly biasIh: Parameter;
  readonly biasHh: Parameter;
}

abstract class Recurrent extends Module {
  private readonly directions: readonly Direction[];
  private readonly suffixes: readonly string[];
  private readonly perLayer: number;

  constructor(
    inputs: number,
    protected readonly hidden: number,
    private readonly cell: "LSTM" | "GRU",
    /** Which of PyTorch's gates stands where ONNX has them. */
    private readonly order: readonly number[],
    { key, layers = 1, bidirectional = false }: RecurrentOptions,
  ) {
    super();
    this.perLayer = bidirectional ? 2 : 1;
    const count = layers * this.perLayer;
    this.suffixes = Array.from({ length: count }, (_, i) => `l${Math.floor(i / this.perLayer)}${i % this.perLayer ? "_reverse" : ""}`);
    const keys = drawKeys(key, 4 * count);
    this.directions = this.suffixes.map((_, i) =>
      this.makeDirection(i < this.perLayer ? inputs : hidden * this.perLayer, keys.slice(4 * i, 4 * i + 4)),
    );
  }

  private makeDirection(inputs: number, keys: readonly Key[]): Direction {
    const rows = this.order.length * this.hidden;
    const draw = (key: Key, ...shape: number[]) => new Parameter(fanInUniform(key, shape, this.hidden));
    return {
      weightIh: draw(keys[0], rows, inputs),
      weightHh: draw(keys[1], rows, this.hidden),
      biasIh: draw(keys[2], rows),
      biasHh: draw(keys[3], rows),
    };
  }

  /** PyTorch's keys: weight_ih_l0, weight_ih_l0_reverse, … */
  override *members(): Iterable<Member> {
    for (const [i, { weightIh, weightHh, biasIh, biasHh }] of this.directions.entries()) {
      const suffix = this.suffixes[i];
      yield [`weight_ih_${suffix}`, weightIh];
      yield [`weight_hh_${suffix}`, weightHh];
      yield [`bias_ih_${suffix}`, biasIh];
      yield [`bias_hh_${suffix}`, biasHh];
    }
  }

  /** x (N, T, in); `state` as the last call gave it, default: zeros. */
  forward(x: Tensor, state?: State): RecurrentOutput {
    const ends: State[] = [];
    let output = x;
    for (let first = 0; first < this.directions.length; first += this.perLayer) {
      const input = output;
      const runs = Array.from({ length: this.perLayer }, (_, d) => {
        const before = state?.map((s) => s.slice(first + d));
        return this.run(input, this.directions[first + d], d === 1, before);
      });
      ends.push(...runs.map((r) => r.end));
      output = runs.length === 1 ? runs[0].output : concat(runs.map((r) => r.output), 2); // biome-ignore format: short
    }
    return { output, state: ends[0].map((_, i) => stack(ends.map((e) => e[i]))) };
  }

  /** ONNX's operator, which has time first and a place for directions. */
  private run(x: Tensor, w: Direction, fromEnd: boolean, before?: State): { output: Tensor; end: State } {
    const [weightIh, weightHh, biasIh, biasHh] = [w.weightIh, w.weightHh, w.biasIh, w.biasHh].map((p) => this.inOrder(p.value));
    const inputs = [x.transpose([1, 0, 2]), ...[weightIh, weightHh, concat([biasIh, biasHh])].map((v) => v.unsqueeze(0)), null];
    const states = before?.map((s) => s.unsqueeze(0)) ?? [];
    const [y, ...ends] = recurrent(this.cell, [...inputs, ...states], fromEnd);
    return { output: y.squeeze(1).transpose([1, 0, 2]), end: ends.map((s) => s.squeeze(0)) };
  }

  private inOrder(rows: Tensor): Tensor {
    const gates = rows.split(this.order.length);
    return concat(this.order.map((i) => gates[i]));
  }
}

/** Hochreiter and Schmidhuber 1997; gates in PyTorch's order: input, forget, cell, output. State: hidden and cell. */
export class LSTM extends Recurrent {
  constructor(inputs: number, hidden: number, options: RecurrentOptions) {
    super(inputs, hidden, "LSTM", [0, 3, 1, 2], options);
  }
}

/** Cho et al. 2014; gates in PyTorch's order: reset, update, new. State: hidden. */
export class GRU extends Recurrent {
  constructor(inputs: number, hidden: number, options: RecurrentOptions) {
    super(inputs, hidden, "GRU", [1, 0, 2], options);
  }
}
