// One compiled graph with state: a program of the chosen device, or the reference interpreter.
import type { Graph } from "../ir/graph.ts";
import type { TensorData } from "../ir/tensor.ts";
import { evaluateGraph } from "../ops/index.ts";
import { compile } from "../run/compile.ts";
import type { Program } from "../run/program.ts";
import { device } from "./device.ts";

/** An input whose tensor stays between runs; `output` is what it holds after a run, null: it does not change. */
export interface StatePair {
  readonly input: string;
  readonly output: string | null;
}

type Tensors = Readonly<Record<string, TensorData>>;

/** Runs are not to overlap: device.ts queues them. */
export class Runner {
  private readonly states = new Map<string, TensorData>();

  private constructor(
    private readonly graph: Graph | null,
    private readonly program: Program | null,
    private readonly pairs: readonly StatePair[],
  ) {}

  static async make(graph: Graph, pairs: readonly StatePair[] = []): Promise<Runner> {
    const opened = await device();
    return opened ? new Runner(null, await compile(graph, { device: opened }, true), pairs) : new Runner(graph, null, pairs);
  }

  /** Bytes that the program's tensors take together; 0 where nothing is compiled. */
  get arenaBytes(): number {
    return this.program?.arenaBytes ?? 0;
  }

  setState(name: string, tensor: TensorData): void {
    this.states.set(name, tensor);
  }
  getState(name: string): TensorData {
    return this.states.get(name)!; // set before the first run
  }

  /** All outputs but those that are states. */
  async run(inputs: Tensors): Promise<Record<string, TensorData>> {
    const all = { ...inputs, ...Object.fromEntries(this.states) };
    const results = this.program ? await this.program.run(all) : evaluateGraph(this.graph!, all); // one of both is there
    for (const { input, output } of this.pairs) if (output) this.states.set(input, results[output]);
    return results;
  }

  free(): void {
    this.program?.free();
    this.states.clear();
  }
}
