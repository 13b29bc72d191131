// Runs the example as a program: learns, writes text, or writes an ONNX file; progress on stderr, results on stdout.
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { HeddleError } from "../../src/ir/error.ts";
import { setDevice } from "../../src/tensor/index.ts";
import { numberOption, runProgram } from "../program.ts";
import { chaptersOf, corpusOf, readBible } from "./corpus.ts";
import { type Loss, ngramLoss } from "./evaluate.ts";
import { generate } from "./generate.ts";
import { checkpointOf, loadGpt, tokenizerOf, toOnnx } from "./saved.ts";
import { type Progress, train } from "./train.ts";

const HELP = `Learns to write as the King James Bible does.

  train                 learns, and compares with 5-grams on the chapters held out
    --steps N           default: 4000
    --batch N           windows in a step; default: 8
    --rate R            largest learning rate; default: 0.002
    --vocabulary N      default: 2048
    --context N         default: 128
    --width N           default: 256
    --heads N           default: 4
    --layers N          default: 6
    --dropout P         default: 0.1
    --resume            goes on from the folder's checkpoint
    --until N           ends after so many steps; --resume goes on later
    --text FILE         verses, "Ge1:1 In the …" a line; default: what the program bible prints
  generate              writes text
    --prompt TEXT       how it begins
    --tokens N          default: 200
    --temperature R     default: 0.8
    --top N             of the likeliest tokens; default: 40
  export                writes model.onnx into the folder

  --folder FOLDER       where checkpoint and tokenizer are; default: build/gpt
  --seed N              default: 0
  --threads N           default: all cores
`;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    steps: { type: "string", default: "4000" },
    batch: { type: "string", default: "8" },
    rate: { type: "string", default: "0.002" },
    vocabulary: { type: "string", default: "2048" },
    context: { type: "string", default: "128" },
    width: { type: "string", default: "256" },
    heads: { type: "string", default: "4" },
    layers: { type: "string", default: "6" },
    dropout: { type: "string", default: "0.1" },
    resume: { type: "boolean", default: false },
    until: { type: "string" },
    text: { type: "string" },
    prompt: { type: "string" },
    tokens: { type: "string", default: "200" },
    temperature: { type: "string", default: "0.8" },
    top: { type: "string", default: "40" },
    folder: { type: "string", default: "build/gpt" },
    seed: { type: "string", default: "0" },
    threads: { type: "string" },
    help: { type: "boolean", default: false },
  },
});

const say = (line: string): void => void process.stderr.write(`${line}\n`);
const show = ({ natsPerToken, bitsPerByte }: Loss): string => `${natsPerToken.toFixed(3)} nats/token, ${bitsPerByte.toFixed(3)} bits/byte`;

function showProgress({ step, steps, loss, gradNorm, tokensPerSecond, valid }: Progress): void {
  const judged = valid ? `  held out: ${show(valid)}` : "";
  say(`step ${step}/${steps}  loss ${loss.toFixed(3)}  norm ${gradNorm.toFixed(2)}  ${tokensPerSecond.toFixed(0)} tokens/s${judged}`);
}

async function runTrain(): Promise<void> {
  const steps = numberOption("steps", values.steps, 1);
  const text = values.text === undefined ? await readBible() : await readFile(values.text, "utf8");
  const corpus = corpusOf(chaptersOf(text), numberOption("vocabulary", values.vocabulary, 257));
  const { tokenizer, train: learned, valid: held, validBytes } = corpus;
  say(`${learned.length} tokens to learn from, ${held.length} held out (${(validBytes / held.length).toFixed(2)} bytes each)`);
  const ngram = ngramLoss(corpus, 5);
  say(`5-grams, held out: ${show(ngram)}`);
  await mkdir(values.folder, { recursive: true });
  await tokenizer.save(tokenizerOf(values.folder));
  const settings = {
    model: {
      context: numberOption("context", values.context, 2),
      width: numberOption("width", values.width, 1),
      heads: numberOption("heads", values.heads, 1),
      layers: numberOption("layers", values.layers, 1),
      dropout: numberOption("dropout", values.dropout, 0),
    },
    steps,
    batch: numberOption("batch", values.batch, 1),
    learningRate: numberOption("rate", values.rate, Number.MIN_VALUE),
    warmUp: Math.ceil(Math.min(100, steps / 10)),
    weightDecay: 0.1,
    clip: 1,
    seed: numberOption("seed", values.seed, 0),
  };
  const { resume } = values;
  const until = values.until === undefined ? {} : { until: numberOption("until", values.until, 1) };
  const result = await train(settings, corpus, { checkpoint: checkpointOf(values.folder), resume, ...until }, showProgress);
  process.stdout.write(`parameters: ${result.parameters}\n`);
  if (result.seconds > 0) process.stdout.write(`learning: ${result.seconds.toFixed(0)} s, ${result.tokensPerSecond.toFixed(0)} tokens/s\n`);
  process.stdout.write(`5-grams, held out: ${show(ngram)}\nnetwork, held out: ${show(result.valid)}\n`);
}

async function runGenerate(): Promise<void> {
  const { model, tokenizer } = await loadGpt(values.folder);
  const { prompt } = values;
  process.stdout.write(prompt ?? "");
  const options = {
    ...(prompt !== undefined && { prompt }),
    count: numberOption("tokens", values.tokens, 1),
    temperature: numberOption("temperature", values.temperature, 0),
    topK: numberOption("top", values.top, 1),
    seed: numberOption("seed", values.seed, 0),
  };
  for await (const text of generate(model, tokenizer, options)) process.stdout.write(text);
  process.stdout.write("\n");
}

async function runExport(): Promise<void> {
  const { model } = await loadGpt(values.folder);
  const path = join(values.folder, "model.onnx");
  await writeFile(path, await toOnnx(model));
  process.stdout.write(`${path}\n`);
}

const COMMANDS: Readonly<Record<string, () => Promise<void>>> = { train: runTrain, generate: runGenerate, export: runExport };

async function main(): Promise<void> {
  const [name = "train"] = positionals;
  if (values.help) return void process.stdout.write(HELP);
  const command = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  if (!command) throw new HeddleError("bad-argument", `got ${name}, wanted ${Object.keys(COMMANDS).join(", ")}`);
  if (values.threads !== undefined) setDevice({ threads: numberOption("threads", values.threads, 1) });
  await command();
}

await runProgram(main);
