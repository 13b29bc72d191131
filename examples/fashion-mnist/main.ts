// Runs the example as a program: options in, progress on stderr, the result on stdout.
import { parseArgs } from "node:util";
import { HeddleError } from "../../src/ir/error.ts";
import { NETWORKS, type NetworkName } from "./networks.ts";
import { train } from "./train.ts";

const HELP = `Learns to tell clothes apart (Fashion-MNIST).

  --network mlp|cnn   default: cnn
  --epochs N          default: 10
  --batch N           default: 128
  --rate R            largest learning rate; default: 0.003
  --seed N            default: 0; the same seed gives the same weights
  --threads N         default: all cores
  --data FOLDER       where the IDX files are; default: those of the Debian package dataset-fashion-mnist
  --steps N           ends after so many steps
  --json              prints the result as JSON
`;

const { values } = parseArgs({
  options: {
    network: { type: "string", default: "cnn" },
    epochs: { type: "string", default: "10" },
    batch: { type: "string", default: "128" },
    rate: { type: "string", default: "0.003" },
    seed: { type: "string", default: "0" },
    threads: { type: "string" },
    data: { type: "string" },
    steps: { type: "string" },
    json: { type: "boolean", default: false },
    help: { type: "boolean", default: false },
  },
});

function positive(name: string, text: string, least = 1): number {
  const number = Number(text);
  if (!(number >= least)) throw new HeddleError("bad-argument", `--${name} is ${text}, wanted a number of at least ${least}`);
  return number;
}

async function main(): Promise<void> {
  if (values.help) return void process.stdout.write(HELP);
  const network = NETWORKS.find((name) => name === values.network) satisfies NetworkName | undefined;
  if (!network) throw new HeddleError("bad-argument", `--network is ${values.network}, wanted ${NETWORKS.join(" or ")}`);
  const result = await train(
    {
      network,
      epochs: positive("epochs", values.epochs),
      batch: positive("batch", values.batch),
      learningRate: positive("rate", values.rate, Number.MIN_VALUE),
      seed: positive("seed", values.seed, 0),
      ...(values.threads && { threads: positive("threads", values.threads) }),
      ...(values.data && { data: values.data }),
      ...(values.steps && { maxSteps: positive("steps", values.steps) }),
    },
    ({ epoch, step, steps, loss, stepsPerSecond }) => {
      process.stderr.write(`epoch ${epoch}  step ${step}/${steps}  loss ${loss.toFixed(4)}  ${stepsPerSecond.toFixed(1)} steps/s\n`);
    },
  );
  if (values.json) return void process.stdout.write(`${JSON.stringify(result)}\n`);
  const percent = result.accuracies.map((a) => `${(100 * a).toFixed(2)} %`).join(", ");
  process.stdout.write(`test accuracy after each epoch: ${percent}\n`);
  process.stdout.write(
    `${result.stepsPerSecond.toFixed(1)} steps/s, ${result.gflops.toFixed(1)} GFLOP/s, ${result.seconds.toFixed(1)} s of learning\n`,
  );
  process.stdout.write(`weights: sha256 ${result.digest}\n`);
}

await main().catch((e: unknown) => {
  if (!(e instanceof HeddleError)) throw e;
  process.stderr.write(`${e.message}\n`);
  process.exitCode = 1;
});
process.exit(); // threads that wait for work do not hold it
