// A bidirectional LSTM that looks at both sides of each letter: letters (n, length) → a number for each, positive where a word ends.
import { Embedding, Linear, LSTM, Module, RandomStream } from "../../src/nn/index.ts";
import type { Tensor } from "../../src/tensor/index.ts";
import { LETTERS } from "./text.ts";

export class Segmenter extends Module {
  private readonly embedding: Embedding;
  private readonly lstm: LSTM;
  private readonly head: Linear;

  constructor({ seed, width = 32, hidden = 96 }: { readonly seed: number; readonly width?: number; readonly hidden?: number }) {
    super();
    const key = new RandomStream(seed);
    this.embedding = new Embedding(LETTERS, width, { key });
    this.lstm = new LSTM(width, hidden, { key, bidirectional: true });
    this.head = new Linear(2 * hidden, 1, { key });
  }

  forward(letters: Tensor): Tensor {
    return this.head.forward(this.lstm.forward(this.embedding.forward(letters)).output).squeeze(-1);
  }
}
