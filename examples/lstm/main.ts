// Runs the example as a program: options in, progress on stderr, the result and a sample on stdout.
import { parseArgs } from "node:util";
import { exportModule } from "../../src/nn/index.ts";
import { setDevice, zeros } from "../../src/tensor/index.ts";
import { chaptersOf, readBible } from "../gpt/corpus.ts";
import { numberOption, runProgram } from "../program.ts";
import { countedEnds } from "./baseline.ts";
import { Segmenter } from "./network.ts";
import { type Letters, split } from "./text.ts";
import { foundEnds, type Score, scoreOf, train } from "./train.ts";

const HELP = `Learns to find words in letters without spaces (the King James Bible, of the Debian packages bible-kjv and bible-kjv-text).

  --steps N       default: 500
  --batch N       default: 32
  --length N      letters that are seen at once; default: 64
  --rate R        largest learning rate; default: 0.01
  --seed N        default: 0
  --threads N     default: all cores
  --export FILE   writes the trained network as ONNX
`;

const percent = (x: number): string => `${(100 * x).toFixed(2)} %`;
const lineOf = (name: string, { precision, recall, f1 }: Score): string =>
  `${name}: F1 ${percent(f1)} (precision ${percent(precision)}, recall ${percent(recall)})\n`;

/** Letters with spaces behind the marked ones. */
const spaced = ({ letters }: Letters, ends: Uint8Array, count: number): string =>
  Array.from(letters.subarray(0, count), (letter, i) => String.fromCharCode(96 + letter) + (ends[i] ? " " : "")).join("");

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      steps: { type: "string", default: "500" },
      batch: { type: "string", default: "32" },
      length: { type: "string", default: "64" },
      rate: { type: "string", default: "0.01" },
      seed: { type: "string", default: "0" },
      threads: { type: "string" },
      export: { type: "string" },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) return void process.stdout.write(HELP);
  if (values.threads) setDevice({ threads: numberOption("threads", values.threads) });
  const { learned, judged } = split(chaptersOf(await readBible()));
  process.stdout.write(lineOf("counting letters around", scoreOf(countedEnds(learned, judged), judged)));
  const [steps, length, seed] = [
    numberOption("steps", values.steps),
    numberOption("length", values.length),
    numberOption("seed", values.seed),
  ];
  const model = new Segmenter({ seed });
  const settings = { steps, length, seed, batch: numberOption("batch", values.batch), learningRate: numberOption("rate", values.rate) };
  const { seconds } = await train(model, learned, settings, (step, loss) => {
    process.stderr.write(`step ${step}/${steps}  loss ${loss.toFixed(4)}\n`);
  });
  const found = await foundEnds(model, judged, length);
  process.stdout.write(lineOf("bidirectional LSTM", scoreOf(found, judged)));
  process.stdout.write(`${steps} steps in ${seconds.toFixed(1)} s (${(steps / seconds).toFixed(1)} steps/s)\n`);
  process.stdout.write(`${spaced(judged, found, 120)}\n`);
  if (!values.export) return;
  await exportModule(model, { letters: zeros([1, length], "i32") }, { path: values.export, batch: "N" });
  process.stdout.write(`wrote ${values.export}\n`);
}

await runProgram(main);
