// What works with text imports: the tokenizer, and n-grams to compare language models with.
export { BpeTokenizer, type BpeTrainOptions } from "./bpe.ts";
export { GPT2_PATTERN } from "./byte_level.ts";
export { NgramModel, type NgramOptions } from "./ngram.ts";
