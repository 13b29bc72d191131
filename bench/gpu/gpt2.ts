// Times a training step (forward, backward, AdamW) of a GPT-2 shape: milliseconds, tokens a second, share of a peak, memory, and where the time goes.
// Options: --device cuda|webgpu|cpu, --layers 12 --width 768 --heads 12 --vocabulary 50257 --context 1024 --batch 8, --precision bf16|f16|f32, --steps N (timed, after 5 that are not), --peak TFLOP/s,
// --dropout P (of weights of attention, of what layers add, and of the first values), --padded (a mask hides the last quarter of every second example's keys), --profile (times of all nodes), --against cpu (no times: losses of the first steps here and there, from the same seed), --json.
import { parseArgs } from "node:util";
import { randomNumbers } from "../../src/cli/random.ts";
import { formatTable } from "../../src/cli/table.ts";
import { type DeviceOptions, isGpu } from "../../src/devices/open.ts";
import { HeddleError } from "../../src/ir/error.ts";
import type { Node } from "../../src/ir/graph.ts";
import { topologicalOrder } from "../../src/ir/graph.ts";
import { Group, groupAttrs } from "../../src/ir/group.ts";
import type { Precision } from "../../src/ir/precision.ts";
import { crossEntropy, Dropout, Embedding, init, LayerNorm, Module, RandomStream, TransformerEncoderLayer } from "../../src/nn/index.ts";
import { AdamW } from "../../src/optim/index.ts";
import { device } from "../../src/tensor/device.ts";
import { arange, fromArray, jit, setDevice, type Tensor, valueAndGrad } from "../../src/tensor/index.ts";

const { values: options } = parseArgs({
  options: {
    device: { type: "string", default: "cuda" },
    layers: { type: "string", default: "12" },
    width: { type: "string", default: "768" },
    heads: { type: "string", default: "12" },
    vocabulary: { type: "string", default: "50257" },
    context: { type: "string", default: "1024" },
    batch: { type: "string", default: "8" },
    precision: { type: "string", default: "bf16" },
    steps: { type: "string", default: "20" },
    peak: { type: "string", default: "792" },
    profile: { type: "boolean", default: false },
    dropout: { type: "string", default: "0" },
    padded: { type: "boolean", default: false },
    against: { type: "string" },
    json: { type: "boolean", default: false },
  },
});
const [layers, width, heads, vocabulary, context, batch, steps] = (
  ["layers", "width", "heads", "vocabulary", "context", "batch", "steps"] as const
).map((name) => Number(options[name]));
const precision = options.precision === "f32" ? undefined : (options.precision as Precision); // wrong names are the compiler's to refuse

const dropout = Number(options.dropout);

/** Standard deviation of first weights, as in GPT-2. */
const DEVIATION = 0.02;
const WARM_UP = 5;
/** Steps whose losses are compared and printed. */
const SHOWN = 4;

/** Tokens (N, T) → logits (N · T, vocabulary): learned places, norms before attention and network, the table of tokens is the last layer's too. */
class Gpt2 extends Module {
  readonly wte: Embedding;
  readonly wpe: Embedding;
  readonly h: readonly TransformerEncoderLayer[];
  readonly lnF = new LayerNorm(width);
  readonly drop: Dropout;

  constructor(seed: number) {
    super();
    const random = new RandomStream(seed + 1);
    this.drop = new Dropout(dropout, random);
    const key = new RandomStream(seed);
    this.wte = new Embedding(vocabulary, width, { key, deviation: DEVIATION });
    this.wpe = new Embedding(context, width, { key, deviation: DEVIATION });
    const layer = { key, dropout, random, normFirst: true, activation: (x: Tensor) => x.gelu("tanh") };
    this.h = Array.from({ length: layers }, () => new TransformerEncoderLayer(width, heads, layer));
    for (const { selfAttn, linear2 } of this.h)
      for (const { weight } of [selfAttn.outProj, linear2])
        weight.value = init.normal(key.next(), weight.shape, DEVIATION / Math.sqrt(2 * layers));
  }

  forward(tokens: Tensor): Tensor {
    const places = arange(tokens.shape[1], undefined, 1, "i32");
    let x: Tensor = this.drop.forward(this.wte.forward(tokens).add(this.wpe.forward(places)));
    const mask = options.padded ? { mask: seen } : {};
    for (const layer of this.h) x = layer.forward(x, { causal: true, ...mask });
    return this.lnF.forward(x).reshape([-1, width]).matmul(this.wte.weight.value.transpose());
  }
}

/** Which keys of each example are not padding, (N, 1, 1, S). */
const seen = fromArray(
  Uint8Array.from({ length: batch * context }, (_, i) => (i % (2 * context) < context + (3 * context) / 4 ? 1 : 0)),
  [batch, 1, 1, context],
  "bool",
);

/** What learns, and the step: the same losses for the same seed. */
function learner() {
  const model = new Gpt2(1);
  const parameters = model.parameters();
  const optimizer = new AdamW(parameters, { learningRate: 3e-4 });
  const step = jit(
    (input: Tensor, target: Tensor) => {
      const { value, grads } = valueAndGrad(() => crossEntropy(model.forward(input), target.reshape([-1])), parameters);
      optimizer.step(grads);
      return value;
    },
    { precision },
  );
  return { step, parameters: parameters.reduce((n, p) => n + p.shape.reduce((a, b) => a * b, 1), 0) };
}

/** Batch number `i`: random tokens, and the next ones. */
function tokensOf(i: number): [Tensor, Tensor] {
  const next = randomNumbers(i + 1);
  const line = Int32Array.from({ length: batch * (context + 1) }, () => Math.floor(next() * vocabulary));
  const part = (from: number) =>
    fromArray(
      Int32Array.from({ length: batch * context }, (_, at) => line[Math.floor(at / context) * (context + 1) + (at % context) + from]),
      [batch, context],
    );
  return [part(0), part(1)];
}

const opened = async () => {
  const found = await device();
  if (found && isGpu(found)) return found;
  return null;
};

async function losses(on: DeviceOptions): Promise<number[]> {
  setDevice(on);
  const { step } = learner();
  const all: number[] = [];
  for (let i = 0; i < SHOWN; i++) all.push(await step(...tokensOf(i)).item());
  step.dispose();
  return all;
}

/** What a node is, for people: the operators of a group in order. */
function nameOf(node: Node): string {
  const ops = node.op === Group ? topologicalOrder(groupAttrs(node).body).filter((n) => n.op.kind !== "source").map((n) => n.op.name) : [node.op.name]; // biome-ignore format: short
  const short = ops.length > 9 ? [...ops.slice(0, 4), `…${ops.length - 8}`, ...ops.slice(-4)] : ops;
  return `${short.join(" ")} → ${node.outputs.map(({ type }) => `${type.dtype}[${type.shape}]`).join(" ")}`;
}

async function profiled(step: ReturnType<typeof learner>["step"], peak: number) {
  const times = await step.profile(...tokensOf(0));
  const byName = new Map<string, { ms: number; count: number }>();
  for (const { node, ms } of times) {
    const name = nameOf(node);
    const row = byName.get(name) ?? { ms: 0, count: 0 };
    byName.set(name, { ms: row.ms + ms, count: row.count + 1 });
  }
  const rows = [...byName].map(([name, { ms, count }]) => ({ name, ms, count })).sort((a, b) => b.ms - a.ms);
  const total = rows.reduce((n, { ms }) => n + ms, 0);
  if (!options.json) {
    const cells = rows.map(({ name, ms, count }) => [ms.toFixed(3), `${((100 * ms) / total).toFixed(1)} %`, String(count), name]);
    process.stdout.write(
      `${formatTable(["ms", "share", "nodes", `node (${total.toFixed(2)} ms, ${times.length} nodes)`], cells, { left: [3] })}\n`,
    );
  }
  return { total, rows, peak };
}

async function timed(): Promise<void> {
  setDevice({ device: options.device } as DeviceOptions); // wrong names are setDevice's to refuse
  const free = (await opened())?.memory()?.freeBytes;
  const { step, parameters } = learner();
  const first: number[] = [];
  const start = performance.now();
  for (let i = 0; i < WARM_UP; i++) {
    first.push(await step(...tokensOf(i)).item());
    if (i === 0) process.stderr.write(`first step, with compilation: ${((performance.now() - start) / 1000).toFixed(1)} s\n`);
  }
  const batches = Array.from({ length: 4 }, (_, i) => tokensOf(i));
  const ms: number[] = [];
  for (let i = 0; i < steps; i++) {
    const from = performance.now();
    await step(...batches[i % batches.length]).item();
    ms.push(performance.now() - from);
  }
  const median = ms.toSorted((a, b) => a - b)[ms.length >> 1];
  const tokens = batch * context;
  // Six operations for each parameter and token, and the products of attention, of which half are masked and counted all the same (Chowdhery et al. 2022).
  const flops = tokens * (6 * parameters + 12 * layers * width * context);
  const after = (await opened())?.memory()?.freeBytes;
  const result = {
    device: (await opened())?.description ?? options.device,
    shape: { layers, width, heads, vocabulary, context, batch, precision: options.precision, dropout, padded: options.padded },
    parameters,
    losses: first.slice(0, SHOWN),
    ms: median,
    fastestMs: Math.min(...ms),
    tokensPerSecond: (1000 * tokens) / median,
    tflops: flops / median / 1e9,
    utilisation: flops / median / 1e9 / Number(options.peak),
    programBytes: await step.arenaBytes(),
    deviceBytes: free !== undefined && after !== undefined ? free - after : null,
    ...(options.profile && { profile: await profiled(step, Number(options.peak)) }),
  };
  if (options.json) process.stdout.write(`${JSON.stringify(result, null, 1)}\n`);
  else
    process.stdout.write(
      `${result.device}: ${(parameters / 1e6).toFixed(1)} M parameters, ${median.toFixed(2)} ms a step (fastest ${result.fastestMs.toFixed(2)}), ${Math.round(result.tokensPerSecond)} tokens/s, ` +
        `${result.tflops.toFixed(0)} TFLOP/s (${(100 * result.utilisation).toFixed(0)} % of ${options.peak}), ${(result.programBytes / 1e9).toFixed(2)} GB for a step, ` +
        `${result.deviceBytes === null ? "?" : (result.deviceBytes / 1e9).toFixed(2)} GB in all; losses ${result.losses.map((l) => l.toFixed(4)).join(" ")}\n`,
    );
}

if (options.against === undefined) await timed();
else {
  const [ours, theirs] = [
    await losses({ device: options.device } as DeviceOptions),
    await losses({ device: options.against } as DeviceOptions),
  ]; // wrong names are setDevice's to refuse
  const worst = Math.max(...ours.map((loss, i) => Math.abs(loss - theirs[i])));
  process.stdout.write(
    `${options.device} ${ours.map((l) => l.toFixed(6)).join(" ")}\n${options.against} ${theirs.map((l) => l.toFixed(6)).join(" ")}\nlargest difference ${worst.toExponential(2)}\n`,
  );
  if (!(worst < (precision ? 2e-2 : 1e-3)))
    throw new HeddleError("verify", `losses of ${options.device} and ${options.against} differ by ${worst}`);
}
setDevice({});
