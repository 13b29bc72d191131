// A network and a text → the mean loss of a token, each seen with at least half a context before it; and what n-grams reach on the same tokens.
import { crossEntropy } from "../../src/nn/index.ts";
import { fromArray, jit, type Tensor } from "../../src/tensor/index.ts";
import { NgramModel } from "../../src/text/index.ts";
import type { Corpus } from "./corpus.ts";
import type { Gpt } from "./model.ts";

/** Targets that do not count. */
const IGNORED = -1;
const WINDOWS = 8;

export interface Loss {
  readonly natsPerToken: number;
  readonly bitsPerByte: number;
}

/** Of a sum of losses over the tokens that are held out, all but the first: there is nothing to tell it from. */
const lossOf = (sum: number, { valid, validBytes }: Corpus): Loss => ({
  natsPerToken: sum / (valid.length - 1),
  bitsPerByte: sum / Math.LN2 / validBytes,
});

/** Interpolated Kneser-Ney n-grams of the tokens that are learned from. */
export function ngramLoss(corpus: Corpus, order: number): Loss {
  const model = NgramModel.train(corpus.train, { order, vocabSize: corpus.tokenizer.vocabSize });
  return lossOf(
    model.losses(corpus.valid).reduce((sum, loss, i) => (i ? sum + loss : 0), 0),
    corpus,
  );
}

/** Windows that overlap by half. Of each the second half counts, and of the first all of it. */
function windowsOf(tokens: Int32Array, context: number): { input: Int32Array; target: Int32Array }[] {
  const stride = Math.ceil(context / 2);
  const windows = [];
  for (let start = 0, counted = 1; counted < tokens.length; start += stride) {
    const [input, target] = [new Int32Array(context), new Int32Array(context).fill(IGNORED)];
    input.set(tokens.subarray(start, start + context));
    target.set(tokens.subarray(start + 1, start + 1 + context));
    target.fill(IGNORED, 0, counted - start - 1);
    counted = start + 1 + context;
    windows.push({ input, target });
  }
  return windows;
}

/** Compiles once; each call judges the network as it is then. */
export function makeJudge(model: Gpt, corpus: Corpus): { loss(): Promise<Loss>; dispose(): void } {
  const { context, vocabulary } = model.options;
  const windows = windowsOf(corpus.valid, context);
  const sum = jit((input: Tensor, target: Tensor) => {
    model.eval();
    const logits = model.forward(input).reshape([-1, vocabulary]);
    return crossEntropy(logits, target.reshape([-1]), { ignoreIndex: IGNORED, reduction: "sum" });
  });
  const loss = async (): Promise<Loss> => {
    let total = 0;
    for (let at = 0; at < windows.length; at += WINDOWS) {
      const [input, target] = [new Int32Array(WINDOWS * context), new Int32Array(WINDOWS * context).fill(IGNORED)];
      for (const [i, window] of windows.slice(at, at + WINDOWS).entries()) {
        input.set(window.input, i * context);
        target.set(window.target, i * context);
      }
      total += await sum(fromArray(input, [WINDOWS, context]), fromArray(target, [WINDOWS, context])).item();
    }
    return lossOf(total, corpus);
  };
  return { loss, dispose: () => sum.dispose() };
}
