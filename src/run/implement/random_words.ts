// RandomWords to a kernel.
import type { Value } from "../../ir/graph.ts";
import { randomWordsKernel } from "../../kernels/random_words.ts";
import type { RandomWordsAttrs } from "../../ops/random_words.ts";
import { type Implementation, sharedKernel, valuePlace } from "../step.ts";

export const implementRandomWords: Implementation = (task) => {
  const { anchor, inputs, name, output, target, threads } = task;
  const [key] = inputs as readonly Value[]; // it is there, by infer
  const { count, fractions } = anchor.attrs as unknown as RandomWordsAttrs;
  if (count === 0) return null;
  const shape = { count, isFraction: fractions !== 0 };
  const kernel = sharedKernel(task, `random words ${JSON.stringify(shape)}`, () => randomWordsKernel(name, shape, target, threads));
  return [{ kernel, places: [key, output].map(valuePlace) }];
};
