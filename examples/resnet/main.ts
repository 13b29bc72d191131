// Runs the example as a program: options in, progress on stderr, the result on stdout, the network as an ONNX file where one is named.
import { parseArgs } from "node:util";
import { exportModule } from "../../src/nn/index.ts";
import { setDevice, zeros } from "../../src/tensor/index.ts";
import { FOLDER, readImages } from "../fashion-mnist/images.ts";
import { numberOption, runProgram } from "../program.ts";
import { ResNet } from "./network.ts";
import { evaluate, train } from "./train.ts";

const HELP = `Learns to tell clothes apart (Fashion-MNIST) with a residual network.

  --depth N       blocks in each of three stages; default: 1
  --epochs N      default: 4
  --batch N       default: 128
  --rate R        largest learning rate; default: 0.004
  --seed N        default: 0
  --threads N     default: all cores
  --steps N       ends after so many steps
  --data FOLDER   where the IDX files are; default: ${FOLDER}
  --export FILE   writes the trained network as ONNX
`;

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      depth: { type: "string", default: "1" },
      epochs: { type: "string", default: "4" },
      batch: { type: "string", default: "128" },
      rate: { type: "string", default: "0.004" },
      seed: { type: "string", default: "0" },
      threads: { type: "string" },
      steps: { type: "string" },
      data: { type: "string", default: FOLDER },
      export: { type: "string" },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) return void process.stdout.write(HELP);
  if (values.threads) setDevice({ threads: numberOption("threads", values.threads) });
  const [learned, judged] = await Promise.all([readImages("train", values.data), readImages("t10k", values.data)]);
  const seed = numberOption("seed", values.seed);
  const model = new ResNet({ seed, depth: numberOption("depth", values.depth) });
  const size = model.parameters().reduce((n, { shape }) => n + shape.reduce((a, b) => a * b, 1), 0);
  const { steps, seconds } = await train(
    model,
    learned,
    {
      epochs: numberOption("epochs", values.epochs),
      batch: numberOption("batch", values.batch),
      learningRate: numberOption("rate", values.rate),
      seed,
      ...(values.steps && { maxSteps: numberOption("steps", values.steps) }),
    },
    (step, of, loss) => process.stderr.write(`step ${step}/${of}  loss ${loss.toFixed(4)}\n`),
  );
  const accuracy = await evaluate(model, judged);
  process.stdout.write(
    `${size} parameters, ${steps} steps in ${seconds.toFixed(1)} s (${(steps / seconds).toFixed(1)} steps/s), ` +
      `test accuracy ${(100 * accuracy).toFixed(2)} %\n`,
  );
  if (!values.export) return;
  await exportModule(model, { images: zeros([1, 1, 28, 28], "u8") }, { path: values.export, batch: "N" });
  process.stdout.write(`wrote ${values.export}\n`);
}

await runProgram(main);
