// A text's token ids → dataset of windows, each with the tokens that follow.
import { HeddleError } from "../ir/error.ts";
import type { TensorData } from "../ir/tensor.ts";
import { builtIn, type Dataset, type Example, type Recipe, sharedTensor } from "./dataset.ts";

export interface TextOptions {
  /** Tokens in a window. */
  readonly window: number;
  /** Tokens from one window's start to the next. Default: a window, so that each token is a target once. */
  readonly stride?: number;
}

/** `input` and `target`, both i32 (window): target[i] is the token after input[i]. */
export class TextDataset implements Dataset<"input" | "target"> {
  readonly length: number;
  private tokens: TensorData;
  private readonly options: Required<TextOptions>;

  constructor(tokens: Int32Array | ArrayLike<number> | TensorData, options: TextOptions) {
    const { window, stride = window } = options;
    this.options = { window, stride };
    this.tokens = isTensor(tokens) ? tokens : { dtype: "i32", shape: [tokens.length], data: Int32Array.from(tokens) };
    for (const [name, value] of Object.entries(this.options))
      if (!Number.isSafeInteger(value) || value < 1)
        throw new HeddleError("bad-argument", `TextDataset: ${name} ${value}, wanted 1 or more`);
    const last = this.tokens.data.length - 1 - window; // where the last window may start
    if (last < 0)
      throw new HeddleError("bad-argument", `TextDataset: ${this.tokens.data.length} tokens, a window of ${window} wants one more`);
    this.length = Math.floor(last / stride) + 1;
  }

  get(index: number): Example<"input" | "target"> {
    const { window, stride } = this.options;
    const at = index * stride;
    const { data } = this.tokens;
    const shape = [window];
    return {
      input: { dtype: "i32", shape, data: data.subarray(at, at + window) },
      target: { dtype: "i32", shape, data: data.subarray(at + 1, at + 1 + window) },
    };
  }

  recipe(): Recipe {
    this.tokens = sharedTensor(this.tokens); // kept once
    return builtIn("TextDataset", this.tokens, this.options);
  }
}

const isTensor = (tokens: ArrayLike<number> | TensorData): tokens is TensorData => "dtype" in tokens && tokens.dtype === "i32";
