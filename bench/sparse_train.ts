// Times a step of learning of an MLP 784-1024-1024-10 with pruned weights in turns: dense layers that start from them, and sparse ones that hold nothing else.
// Options: --sparsity 0.8,0.9,…, --optimizer adam|sgd (adam), --batch N (128), --threads N (1), --device cpu|wasm, --isa avx512|avx2, --seconds S, --json.
import { cpus, loadavg } from "node:os";
import { parseArgs } from "node:util";
import { interleave } from "../src/cli/interleave.ts";
import { randomNumbers } from "../src/cli/random.ts";
import { rounded, roundedSpread, type Spread, spreadOf } from "../src/cli/statistics.ts";
import { formatTable } from "../src/cli/table.ts";
import { msText, short, threadsText } from "../src/cli/units.ts";
import type { DeviceOptions } from "../src/devices/open.ts";
import { HeddleError } from "../src/ir/error.ts";
import { crossEntropy, Linear, RandomStream, ReLU, Sequential, SparseLinear } from "../src/nn/index.ts";
import { Adam, SGD } from "../src/optim/index.ts";
import { evaluate, fromArray, fromData, type Jitted, jit, setDevice, type Tensor, valueAndGrad } from "../src/tensor/index.ts";

const { values: options } = parseArgs({
  options: {
    sparsity: { type: "string", default: "0.5,0.8,0.9,0.95" },
    optimizer: { type: "string", default: "adam" },
    batch: { type: "string", default: "128" },
    threads: { type: "string", default: "1" },
    device: { type: "string" },
    isa: { type: "string" },
    seconds: { type: "string", default: "2" },
    json: { type: "boolean", default: false },
  },
});
const SIZES = [784, 1024, 1024, 10];
const batch = Number(options.batch);
setDevice({ device: options.device, isa: options.isa, threads: Number(options.threads) } as DeviceOptions); // wrong names are its to refuse

const next = randomNumbers(1);
const x = fromArray(
  Float32Array.from({ length: batch * SIZES[0] }, () => next() * 2 - 1),
  [batch, SIZES[0]],
);
const y = fromArray(
  Int32Array.from({ length: batch }, () => Math.floor(next() * 10)),
  [batch],
);
await evaluate(x, y);

interface Row {
  readonly sparsity: number;
  readonly ms: { readonly dense: Spread; readonly sparse: Spread };
  /** The dense step's median over the sparse one's. */
  readonly ratio: number;
  /** Of parameters; an optimizer keeps as much again, or twice. */
  readonly parameterBytes: { readonly dense: number; readonly sparse: number };
  readonly losses: { readonly dense: number; readonly sparse: number };
}

type Step = Jitted<[Tensor, Tensor], Tensor>;

function stepOf(model: Sequential): Step {
  const parameters = model.parameters();
  const optimizer =
    options.optimizer === "sgd" ? new SGD(parameters, { learningRate: 1e-3 }) : new Adam(parameters, { learningRate: 1e-4 });
  return jit((images: Tensor, labels: Tensor) => {
    const { value, grads } = valueAndGrad(() => crossEntropy(model.forward(images), labels), parameters);
    optimizer.step(grads);
    return value;
  });
}

async function measure(sparsity: number): Promise<Row> {
  const key = new RandomStream(1);
  const linears = SIZES.slice(1).map((outputs, i) => new Linear(SIZES[i], outputs, { key }));
  // The last layer is too small to be pruned.
  const pruned = await Promise.all(linears.slice(0, -1).map((layer) => SparseLinear.prune(layer, sparsity)));
  for (const [i, layer] of pruned.entries()) linears[i].weight.value = fromData(await layer.denseWeight());
  const head = new Linear(SIZES[2], SIZES[3], { key });
  head.loadStateDict(await linears[2].stateDict());
  const models = {
    dense: new Sequential(linears[0], new ReLU(), linears[1], new ReLU(), linears[2]),
    sparse: new Sequential(pruned[0], new ReLU(), pruned[1], new ReLU(), head),
  };
  const [dense, sparse] = [stepOf(models.dense), stepOf(models.sparse)];
  const losses = { dense: await dense(x, y).item(), sparse: await sparse(x, y).item() };
  if (Math.abs(losses.dense - losses.sparse) > 1e-4 * losses.dense)
    throw new HeddleError("verify", `losses are ${losses.dense} and ${losses.sparse}`);
  const times = await interleave([{ run: () => dense(x, y).item() }, { run: () => sparse(x, y).item() }], {
    seconds: Number(options.seconds),
  });
  const [ms, sparseMs] = times.map((t) => roundedSpread(spreadOf(t)));
  const bytesOf = (model: Sequential): number => model.parameters().reduce((n, p) => n + 4 * p.shape.reduce((a, b) => a * b, 1), 0);
  for (const step of [dense, sparse]) step.dispose();
  return {
    sparsity,
    ms: { dense: ms, sparse: sparseMs },
    ratio: rounded(ms.median / sparseMs.median),
    parameterBytes: { dense: bytesOf(models.dense), sparse: bytesOf(models.sparse) },
    losses,
  };
}

const rows: Row[] = [];
for (const sparsity of options.sparsity.split(",").map(Number)) rows.push(await measure(sparsity));
if (options.json) {
  const head = { cpu: cpus()[0].model, load: rounded(loadavg()[0]), device: options.device ?? "cpu", threads: Number(options.threads) };
  console.log(JSON.stringify({ ...head, network: SIZES.join("-"), batch, optimizer: options.optimizer, rows }, null, 2));
} else {
  const spread = ({ median, p10, p90 }: Spread): string => `${msText(median)} (${short(p10)} to ${short(p90)})`;
  const cells = rows.map((r) => [
    `${rounded(100 * r.sparsity)} %`,
    spread(r.ms.dense),
    spread(r.ms.sparse),
    `${short(r.ratio)}×`,
    `${short(r.parameterBytes.sparse / r.parameterBytes.dense)}`,
  ]);
  console.log(`${SIZES.join("-")}, batch ${batch}, ${options.optimizer}, ${threadsText(Number(options.threads))}; medians (p10 to p90)\n`);
  console.log(formatTable(["zeros", "dense step", "sparse step", "ratio", "parameters"], cells));
}
process.exit(); // threads that wait for work do not hold it
