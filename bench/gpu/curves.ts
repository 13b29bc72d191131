// Trains the Fashion-MNIST example from one seed on two devices, and says how far the losses of equal steps are apart; an error where it is more than 1e-3.
// Options: --device cuda|webgpu|wasm|…, --against cpu, --steps 100, --seed N, --epochs N (of the learning rate's schedule), --threads N (of CPUs), --folder DIR (of the IDX files), --json.
import { parseArgs } from "node:util";
import training from "../../examples/fashion-mnist/train.ts";
import type { DeviceOptions } from "../../src/devices/open.ts";
import { HeddleError } from "../../src/ir/error.ts";

const { values: options } = parseArgs({
  options: {
    device: { type: "string", default: "cuda" },
    against: { type: "string", default: "cpu" },
    steps: { type: "string", default: "100" },
    seed: { type: "string", default: "0" },
    epochs: { type: "string", default: "16" },
    threads: { type: "string", default: "2" },
    folder: { type: "string" },
    json: { type: "boolean", default: false },
  },
});

/** Float32 sums in another order, through so many steps. */
const TOLERANCE = 1e-3;

async function losses(device: string): Promise<number[]> {
  const all: number[] = [];
  const start = performance.now();
  await training.run({
    device: { device, threads: Number(options.threads) } as DeviceOptions, // wrong names are the device's to refuse
    seed: Number(options.seed),
    epochs: Number(options.epochs),
    steps: Number(options.steps),
    options: options.folder === undefined ? {} : { folder: options.folder },
    report: (event) => {
      if (event.kind === "step") all.push(event.loss);
    },
  });
  process.stderr.write(`${device}: ${all.length} steps, ${((performance.now() - start) / 1000).toFixed(1)} s with compilation\n`);
  return all;
}

const [ours, theirs] = [await losses(options.device), await losses(options.against)];
const apart = ours.map((loss, i) => Math.abs(loss - theirs[i]));
const largest = Math.max(...apart);
const at = apart.indexOf(largest);
const result = {
  device: options.device,
  against: options.against,
  steps: ours.length,
  largest,
  step: at + 1,
  losses: ours,
  reference: theirs,
};
if (options.json) process.stdout.write(`${JSON.stringify(result)}\n`);
else {
  const shown = [0, 1, 9, 24, 49, 74, ours.length - 1].filter((i) => i < ours.length);
  for (const i of shown)
    process.stdout.write(`step ${i + 1}: ${ours[i].toFixed(6)} ${theirs[i].toFixed(6)}, apart ${apart[i].toExponential(1)}\n`);
  process.stdout.write(
    `${options.device} and ${options.against}, ${ours.length} steps: ${largest.toExponential(2)} apart at most, at step ${at + 1}\n`,
  );
}
if (!(largest <= TOLERANCE))
  throw new HeddleError(
    "verify",
    `losses of ${options.device} and ${options.against} are ${largest} apart at step ${at + 1}, wanted ${TOLERANCE} at most`,
  );
