// Times attention on a CPU: as products around a softmax, as the program chooses, and in turns in onnxruntime, as the same operators and as its MultiHeadAttention.
// Options: --only TEXT,… (of the name), --threads N (default 1), --device x86|wasm, --isa avx512|avx2, --seconds S, --json.
import { parseArgs } from "node:util";
import { compareOutputs } from "../src/cli/agreement.ts";
import { interleave } from "../src/cli/interleave.ts";
import { createProgress } from "../src/cli/progress.ts";
import { randomInputs } from "../src/cli/random.ts";
import { type Engine, isInstalled, openHeddle, openRival } from "../src/cli/rivals.ts";
import { rounded, spreadOf } from "../src/cli/statistics.ts";
import { formatTable } from "../src/cli/table.ts";
import { msText, short, threadsText } from "../src/cli/units.ts";
import type { DeviceOptions } from "../src/devices/open.ts";
import { encodeAttribute } from "../src/formats/onnx/attribute.ts";
import { exportOnnx } from "../src/formats/onnx/export.ts";
import { importGraph } from "../src/formats/onnx/import.ts";
import { create, DIMENSION, GRAPH, MODEL, NODE, VALUE, type ValueInfoProto } from "../src/formats/onnx/messages.ts";
import { readOnnx } from "../src/formats/onnx/read.ts";
import { encode } from "../src/formats/onnx/wire_writer.ts";
import { apply, topologicalOrder } from "../src/ir/graph.ts";
import { fromNumbers } from "../src/ir/tensor.ts";
import { OPS } from "../src/ops/index.ts";
import { constantValue, input } from "../src/ops/source.ts";

const { values: options } = parseArgs({
  options: {
    only: { type: "string", default: "" },
    threads: { type: "string", default: "1" },
    device: { type: "string" },
    isa: { type: "string" },
    seconds: { type: "string", default: "1" },
    json: { type: "boolean", default: false },
  },
});
const threads = Number(options.threads);
const device = { device: options.device, isa: options.isa, threads } as DeviceOptions; // wrong names are openDevice's to refuse

interface Work {
  readonly name: string;
  readonly queries: number;
  readonly keys?: number;
  readonly isCausal?: boolean;
}

const HEADS = 12;
const DEPTH = 64;
const SEQUENCES = [64, 128, 384, 1024, 2048].flatMap((queries): Work[] => [
  { name: `${queries}`, queries },
  { name: `${queries} causal`, queries, isCausal: true },
]);
const WORKS: readonly Work[] = [
  { name: "40 characters", queries: 40 },
  ...SEQUENCES,
  { name: "197 patches", queries: 197 },
  { name: "1 query of 128", queries: 1, keys: 128 },
  { name: "1 query of 4096", queries: 1, keys: 4096 },
  { name: "4 queries of 4096", queries: 4, keys: 4096 },
  { name: "8 queries of 1024", queries: 8, keys: 1024 },
  { name: "16 queries of 1024", queries: 16, keys: 1024 },
];

const SCALE = 1 / Math.sqrt(DEPTH);

/** Queries, keys and values as layers before give them: places, then heads side by side. */
const inputsOf = ({ queries, keys = queries }: Work) =>
  (["q", "k", "v"] as const).map((name, i) => ({ name, dtype: "f32" as const, shape: [1, i === 0 ? queries : keys, HEADS * DEPTH] }));

/** Products around a softmax, as exporters write them. */
function plainModel(work: Work): Uint8Array {
  const { queries, keys = queries, isCausal } = work;
  const ints = (...list: number[]) => constantValue(fromNumbers("i64", [list.length], list));
  const inputs = inputsOf(work).map(({ name, dtype, shape }) => input(name, { dtype, shape }));
  const heads = inputs.map((x) => apply(OPS.get("Reshape")!, [x, ints(1, x.type.shape[1], HEADS, DEPTH)], {}, "heads")[0]);
  const [y] = apply(OPS.get("MaskedAttention")!, heads, { scale: SCALE, before: isCausal ? keys - queries : -1 }, "attention");
  const [value] = apply(OPS.get("Reshape")!, [y, ints(1, queries, HEADS * DEPTH)], {}, "joined");
  return exportOnnx({ inputs, outputs: [{ name: "y", value }] });
}

/** The same, whose weights another node reads as well, so that they have to be stored. */
function apartModel(model: Uint8Array): Uint8Array {
  const graph = importGraph(readOnnx(model));
  const weights = topologicalOrder(graph).find(({ op }) => op.name === "Softmax")!.outputs[0];
  const ints = (...list: number[]) => constantValue(fromNumbers("i64", [list.length], list));
  const [value] = apply(OPS.get("Slice")!, [weights, ints(0, 0), ints(1, 1), ints(2, 3)], {}, "corner");
  return exportOnnx({ ...graph, outputs: [...graph.outputs, { name: "corner", value }] });
}

/** onnxruntime's own operator. */
function ownModel(work: Work): Uint8Array {
  const valueInfo = (name: string, shape: readonly number[]): ValueInfoProto => {
    const dim = shape.map((size) => create(DIMENSION, { dimValue: BigInt(size) }));
    return create(VALUE, { name, type: { tensorType: { elemType: 1, shape: { dim } } } });
  };
  const inputs = inputsOf(work);
  const attribute = [
    encodeAttribute("num_heads", { type: "int" }, HEADS),
    encodeAttribute("scale", { type: "float" }, SCALE),
    ...(work.isCausal ? [encodeAttribute("unidirectional", { type: "int" }, 1)] : []),
  ];
  const node = create(NODE, { opType: "MultiHeadAttention", domain: "com.microsoft", input: ["q", "k", "v"], output: ["y"], attribute });
  const graph = create(GRAPH, {
    name: "graph",
    node: [node],
    input: inputs.map(({ name, shape }) => valueInfo(name, shape)),
    output: [valueInfo("y", inputs[0].shape)],
  });
  const opsetImport = [{ domain: "", version: 21n }, { domain: "com.microsoft", version: 1n }]; // biome-ignore format: one line
  return encode(MODEL, create(MODEL, { irVersion: 10n, producerName: "heddle", opsetImport, graph }));
}

const BY = ["products", "heddle", "onnxruntime", "MultiHeadAttention"] as const;
interface Row {
  readonly work: string;
  /** What a tenth of the runs stay below: neighbours on the machine make the others longer. */
  readonly ms: Readonly<Partial<Record<(typeof BY)[number], number>>>;
  /** Of heddle; half of the scores count where order hides the others. */
  readonly gflops: number;
}

const flopsOf = ({ queries, keys = queries, isCausal }: Work): number => 4 * HEADS * queries * keys * DEPTH * (isCausal ? 0.5 : 1);

async function measure(work: Work): Promise<Row> {
  const plain = plainModel(work);
  const engines: Engine[] = [await openHeddle(apartModel(plain), device), await openHeddle(plain, device)];
  if (isInstalled("onnxruntime"))
    engines.push(await openRival("onnxruntime", plain, { threads }), await openRival("onnxruntime", ownModel(work), { threads }));
  try {
    const inputs = randomInputs(inputsOf(work), 1);
    const bound = engines.map((e) => e.bind(inputs));
    const outputs = await Promise.all(bound.map((b) => b.outputs()));
    for (const [i, { y }] of outputs.entries()) {
      const [agreement] = compareOutputs({ y }, { y: outputs[0].y });
      if (!agreement.ok) throw new Error(`${work.name}: ${BY[i]} and products differ by ${agreement.maxScaled ?? agreement.reason}`);
    }
    const times = await interleave(bound, { seconds: Number(options.seconds) });
    const medians = times.map((t) => rounded(spreadOf(t).median));
    return {
      work: work.name,
      ms: Object.fromEntries(medians.map((ms, i) => [BY[i], ms])),
      gflops: rounded(flopsOf(work) / medians[1] / 1e6),
    };
  } finally {
    for (const e of engines) await e.close();
  }
}

const progress = createProgress();
const rows: Row[] = [];
for (const work of WORKS.filter(({ name }) => options.only.split(",").some((part) => name.includes(part)))) {
  progress.say(work.name);
  rows.push(await measure(work));
}
progress.clear();
if (options.json)
  process.stdout.write(`${JSON.stringify({ threads, device: options.device ?? "cpu", heads: HEADS, depth: DEPTH, rows }, null, 1)}\n`);
else {
  const cells = rows.map(({ work, ms, gflops }) => [work, ...BY.map((by) => (ms[by] === undefined ? "–" : msText(ms[by]))), short(gflops)]);
  process.stdout.write(`${HEADS} heads of ${DEPTH}, ${threadsText(threads)}\n\n${formatTable(["queries", ...BY, "GFLOP/s"], cells)}\n`);
}
