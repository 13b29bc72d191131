// RandomWords: a key → random words or fractions by Threefry-2x32 with 20 rounds; the same bits on the host and on every device.
import { HeddleError } from "../ir/error.ts";
import { defineOp, type Op } from "../ir/graph.ts";
import type { TensorData } from "../ir/tensor.ts";
import { FRACTION, ROUNDS, randomWords } from "../ir/threefry.ts";
import { inputType, tensorOf } from "./define.ts";

export interface RandomWordsAttrs {
  /** How many. */
  readonly count: number;
  /** 1: as fractions of [0, 1), f32; 0: as words, u32. */
  readonly fractions: number;
}

/** key u32 (2) → u32 or f32 (count). */
export const RandomWords: Op = defineOp<RandomWordsAttrs>({
  name: "RandomWords",
  kind: "opaque",
  own: true,
  attrs: { count: { type: "int" }, fractions: { type: "int", default: 0 } },
  infer(inputs, { count, fractions }) {
    const { shape } = inputType("RandomWords", inputs, 0, ["u32"]);
    if (shape.join() !== "2" || !(count >= 0))
      throw new HeddleError("bad-model", `RandomWords: ${count} words of a key of shape (${shape})`);
    return [{ dtype: fractions ? "f32" : "u32", shape: [count] }];
  },
  evaluate([key], node) {
    const { count, fractions } = node.attrs;
    const [a, b] = key!.data; // checked by infer
    const data = randomWords([Number(a), Number(b)], count);
    const tensor: TensorData = { dtype: "u32", shape: [count], data };
    return [fractions ? { dtype: "f32", shape: [count], data: Float32Array.from(data, (w) => (w >>> 8) * FRACTION) } : tensor];
  },
  flops: (node) => (node.attrs.count / 2) * (5 * ROUNDS + 16),
  samples: [
    { inputs: [tensorOf("u32", [7, 0xdeadbeef])], attrs: { count: 4 } },
    { inputs: [tensorOf("u32", [0xffffffff, 1])], attrs: { count: 101 } },
    { inputs: [tensorOf("u32", [0, 0])], attrs: { count: 1 } },
    { inputs: [tensorOf("u32", [3, 4])], attrs: { count: 259, fractions: 1 } },
    { inputs: [tensorOf("u32", [5, 6])], attrs: { count: 64, fractions: 1 } },
  ],
});

export const randomWordsOps: readonly Op[] = [RandomWords];
