// Random words of training: generated from their expression in a page, without a kernel of their own.
import { invariant } from "../../ir/error.ts";

type RandomWords = typeof import("./random_words.ts");

export const fitsRandomWords: RandomWords["fitsRandomWords"] = () => false;
export const randomWordsKernel: RandomWords["randomWordsKernel"] = (name) => {
  invariant(false, `${name}: a kernel for random words in a browser`);
};
