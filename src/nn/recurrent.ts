// LSTM and GRU, each time step written out: (N, T, in) → (N, T, hidden), one direction or both.
import { concat, type Key, Parameter, stack, type Tensor, zeros } from "../tensor/index.ts";
import { fanInUniform } from "./init.ts";
import { linear } from "./linear.ts";
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
    private readonly gates: number,
    private readonly states: number,
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
    const rows = this.gates * this.hidden;
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

  /** One step: what the input and the hidden state say to all gates (N, gates · hidden), and the state before. */
  protected abstract cell(fromInput: Tensor, fromHidden: Tensor, state: State): State;

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

  private run(x: Tensor, w: Direction, fromEnd: boolean, before?: State): { output: Tensor; end: State } {
    const [batch, steps] = x.shape;
    const fromInput = linear(x, w.weightIh.value, w.biasIh.value); // of all steps: one product
    let state: State = before ?? Array.from({ length: this.states }, () => zeros([batch, this.hidden]));
    const outputs: Tensor[] = [];
    for (let i = 0; i < steps; i++) {
      const at = fromEnd ? steps - 1 - i : i;
      state = this.cell(fromInput.slice(null, at), linear(state[0], w.weightHh.value, w.biasHh.value), state);
      outputs[at] = state[0];
    }
    return { output: stack(outputs, 1), end: state };
  }
}

/** Hochreiter and Schmidhuber 1997; gates in PyTorch's order: input, forget, cell, output. State: hidden and cell. */
export class LSTM extends Recurrent {
  constructor(inputs: number, hidden: number, options: RecurrentOptions) {
    super(inputs, hidden, 4, 2, options);
  }
  protected cell(fromInput: Tensor, fromHidden: Tensor, [, before]: State): State {
    const [input, forget, candidate, output] = fromInput.add(fromHidden).split(4, 1);
    const cell = forget.sigmoid().mul(before).add(input.sigmoid().mul(candidate.tanh()));
    return [output.sigmoid().mul(cell.tanh()), cell];
  }
}

/** Cho et al. 2014; gates in PyTorch's order: reset, update, new. State: hidden. */
export class GRU extends Recurrent {
  constructor(inputs: number, hidden: number, options: RecurrentOptions) {
    super(inputs, hidden, 3, 1, options);
  }
  protected cell(fromInput: Tensor, fromHidden: Tensor, [before]: State): State {
    const [ri, zi, ni] = fromInput.split(3, 1);
    const [rh, zh, nh] = fromHidden.split(3, 1);
    const update = zi.add(zh).sigmoid();
    const next = ni.add(ri.add(rh).sigmoid().mul(nh)).tanh();
    return [next.add(update.mul(before.sub(next)))];
  }
}
