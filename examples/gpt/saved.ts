// A folder with a trained network and its tokenizer ↔ both in memory; and the network as an ONNX file.
import { join } from "node:path";
import { loadCheckpoint } from "../../src/formats/checkpoint.ts";
import { exportOnnx } from "../../src/formats/onnx/export.ts";
import { HeddleError } from "../../src/ir/error.ts";
import { fromArray, toGraph } from "../../src/tensor/index.ts";
import { BpeTokenizer } from "../../src/text/index.ts";
import { Gpt, type GptOptions } from "./model.ts";

export const checkpointOf = (folder: string): string => join(folder, "checkpoint.safetensors");
export const tokenizerOf = (folder: string): string => join(folder, "tokenizer.json");

/** What a checkpoint's notes say, as far as the network goes. */
interface Notes {
  readonly model: Omit<GptOptions, "vocabulary">;
  readonly vocabulary: number;
}

const isNotes = (notes: unknown): notes is Notes =>
  typeof notes === "object" && notes !== null && "model" in notes && "vocabulary" in notes;

export async function loadGpt(folder: string): Promise<{ model: Gpt; tokenizer: BpeTokenizer; step: number }> {
  const path = checkpointOf(folder);
  const [saved, tokenizer] = await Promise.all([loadCheckpoint(path), BpeTokenizer.load(tokenizerOf(folder))]);
  if (!isNotes(saved.notes)) throw new HeddleError("bad-input", `${path} is not a checkpoint of this example`);
  const model = new Gpt({ ...saved.notes.model, vocabulary: saved.notes.vocabulary }, 0);
  model.loadStateDict(saved.model);
  return { model, tokenizer, step: saved.step };
}

/** "tokens" i32 (1, length) → "logits" f32 (1, length, vocabulary). Default length: the whole context. */
export async function toOnnx(model: Gpt, length = model.options.context): Promise<Uint8Array> {
  model.eval();
  const tokens = fromArray(new Int32Array(length), [1, length]);
  const graph = await toGraph((t) => model.forward(t), [tokens], { inputs: ["tokens"], outputs: ["logits"] });
  return exportOnnx(graph, { name: "gpt" });
}
