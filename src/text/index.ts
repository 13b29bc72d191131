// What works with text imports: the tokenizer.
export { BpeTokenizer, type BpeTrainOptions } from "./bpe.ts";
export { GPT2_PATTERN } from "./byte_level.ts";
