// Times attention on a GPU: as products around a softmax, as the program chooses, and by every schedule of the kernel for plain cores, with its distance from the products' result.
// Options: --device cuda|webgpu, --only TEXT,… (of the name), --dtype f32|bf16|f16, --schedules (all of them in float32, not only the choice), --json.
import { parseArgs } from "node:util";
import { randomInputs } from "../../src/cli/random.ts";
import { rounded } from "../../src/cli/statistics.ts";
import { formatTable } from "../../src/cli/table.ts";
import { short } from "../../src/cli/units.ts";
import type { GpuDevice, GpuMemory } from "../../src/devices/gpu.ts";
import { isGpu, openAnyDevice } from "../../src/devices/open.ts";
import type { TypedArray } from "../../src/ir/dtype.ts";
import { apply, type Graph, type Value } from "../../src/ir/graph.ts";
import { fromNumbers, toNumbers } from "../../src/ir/tensor.ts";
import type { HeadView } from "../../src/kernels/simt/head_tiles.ts";
import {
  fitsOnline,
  joinedKernel,
  linesOf,
  type OnlineSchedule,
  type OnlineShape,
  onlineKernel,
} from "../../src/kernels/simt/online_attention.ts";
import { CUTS, onlineSchedule } from "../../src/kernels/simt/online_schedule.ts";
import { OPS } from "../../src/ops/index.ts";
import { constantValue, input, inputName } from "../../src/ops/source.ts";
import { compileForGpu } from "../../src/run/gpu/program.ts";
import { fill, replayed, replayMs } from "./launches.ts";

const { values: options } = parseArgs({
  options: {
    device: { type: "string", default: "cuda" },
    only: { type: "string", default: "" },
    dtype: { type: "string", default: "f32" },
    schedules: { type: "boolean", default: false },
    json: { type: "boolean", default: false },
  },
});

const dtype = options.dtype as "f32" | "bf16" | "f16"; // other names are no types of the device

interface Work {
  readonly name: string;
  readonly batch: number;
  readonly heads: number;
  readonly group?: number;
  readonly queries: number;
  readonly keys?: number;
  readonly depth: number;
  readonly isCausal?: boolean;
  /** Of places of each example, added to scores. */
  readonly isMasked?: boolean;
}

const WORKS: readonly Work[] = [
  { name: "characters", batch: 1, heads: 8, queries: 40, depth: 15 },
  { name: "gpt-2 step", batch: 1, heads: 12, queries: 1, keys: 1024, depth: 64 },
  { name: "bert 128", batch: 1, heads: 12, queries: 128, depth: 64 },
  { name: "vit", batch: 1, heads: 12, queries: 197, depth: 64 },
  { name: "picture by text", batch: 1, heads: 8, queries: 4096, keys: 77, depth: 40 },
  { name: "llama step", batch: 1, heads: 8, group: 4, queries: 1, keys: 4096, depth: 128 },
  { name: "bert 384", batch: 8, heads: 12, queries: 384, depth: 64 },
  { name: "bert 384 with padding", batch: 8, heads: 12, queries: 384, depth: 64, isMasked: true },
  { name: "deep", batch: 1, heads: 8, queries: 1024, depth: 256 },
  { name: "gpt-2 causal", batch: 8, heads: 12, queries: 1024, depth: 64, isCausal: true },
  { name: "picture", batch: 1, heads: 8, queries: 4096, depth: 40 },
  { name: "llama step of 4", batch: 4, heads: 8, group: 4, queries: 1, keys: 4096, depth: 128 },
  { name: "llama prompt", batch: 1, heads: 8, group: 4, queries: 2048, depth: 128, isCausal: true },
];

const shapeOf = ({ batch, heads, group = 1, queries, keys = queries, depth, isCausal }: Work): OnlineShape => ({
  batch, heads, group, queries, keys, depth, width: depth, scale: 1 / Math.sqrt(depth), cap: 0, before: isCausal ? keys - queries : null, seen: null, hidden: 0, bias: null,
}); // biome-ignore format: a table

const viewOf = (batch: number, places: number, heads: number, width: number): HeadView => ({
  dtype: "f32", elements: batch * places * heads * width, from: 0, batch: places * heads * width, head: width, place: heads * width,
}); // biome-ignore format: a table

function* plans(shape: OnlineShape, device: GpuDevice): Generator<OnlineSchedule> {
  const rows = shape.queries * shape.group;
  const units = device.target.units ?? 16;
  for (const s of CUTS) {
    const blocks = Math.ceil(rows / s.rows) * shape.batch * shape.heads;
    if (s.rows >= 2 * rows || (s.rows < 32 && rows > 256) || (s.rows < 8 && rows > 16)) continue;
    const near = 2 ** Math.round(Math.log2((2 * units) / blocks));
    for (const parts of new Set([1, near / 2, near, near * 2]))
      if (parts === 1 || (parts >= 2 && shape.keys / parts >= s.tile))
        if (fitsOnline(shape, { ...s, parts }, device.target)) yield { ...s, parts };
  }
}

/** softmax(q · kᵀ) · v as files have it. `isApart`: weights are read by another node as well, so that they have to be stored. */
function graphOf({ batch, heads, group = 1, queries, keys = queries, depth, isCausal, isMasked }: Work, isApart: boolean): Graph {
  const op = (name: string, values: readonly Value[], attrs = {}): Value => apply(OPS.get(name)!, values, attrs, name)[0]; // operators of ONNX
  const ints = (...list: number[]) => constantValue(fromNumbers("i64", [list.length], list));
  const all = heads * group;
  const inputs = ([[queries, all], [keys, heads], [keys, heads]] as const).map(([places, h], i) => input(`in${i}`, { dtype, shape: [batch, places, h, depth] })); // biome-ignore format: a line
  const repeated = (x: Value): Value => {
    if (group === 1) return x;
    const [, , ...ends] = x.type.shape;
    const one = op("Reshape", [x, ints(batch, heads, 1, ...ends)]);
    return op("Reshape", [op("Expand", [one, ints(batch, heads, group, ...ends)]), ints(batch, all, ...ends)]);
  };
  const [q, k, v] = [[0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]].map((perm, i) => op("Transpose", [inputs[i]], { perm })); // biome-ignore format: a line
  let scores = op("Mul", [op("MatMul", [q, repeated(k)]), constantValue(fromNumbers(dtype, [], [1 / Math.sqrt(depth)]))]);
  if (isCausal) {
    const seen = Array.from({ length: queries * keys }, (_, i) => Number(i % keys <= Math.floor(i / keys) + keys - queries));
    scores = op("Where", [
      constantValue(fromNumbers("bool", [queries, keys], seen)),
      scores,
      constantValue(fromNumbers(dtype, [], [Number.NEGATIVE_INFINITY])),
    ]);
  }
  if (isMasked) {
    inputs.push(input("mask", { dtype, shape: [batch, 1, 1, keys] }));
    scores = op("Add", [scores, inputs[3]]);
  }
  const weights = op("Softmax", [scores], { axis: -1 });
  const y = op("Transpose", [op("MatMul", [weights, repeated(v)])], { perm: [0, 2, 1, 3] });
  const other = isApart ? [{ name: "corner", value: op("Slice", [weights, ints(0, 0), ints(1, 1), ints(2, 3)]) }] : [];
  return { inputs, outputs: [{ name: "y", value: y }, ...other] };
}

/** µs of a run of a program, and its result. */
async function programOf(work: Work, device: GpuDevice, isApart: boolean) {
  const graph = graphOf(work, isApart);
  const program = await compileForGpu(graph, { device });
  try {
    const result = await program.run(randomInputs(graph.inputs.map((v) => ({ name: inputName(v), ...v.type })), 1)); // biome-ignore format: one idea
    const us = 1e3 * (await replayMs(program));
    const launches = program.schedule.steps.reduce((n, { calls }) => n + (calls?.length ?? 0), 0);
    return { us, launches, y: toNumbers(result.y) };
  } finally {
    program.free();
  }
}

interface Row {
  readonly work: string;
  readonly by: string;
  readonly us: number;
  readonly tflops: number;
  /** Largest difference from what products give; of schedules from the first one's. */
  readonly error: number;
}

const flopsOf = ({ batch, heads, group = 1, queries, keys = queries, depth, isCausal }: Work): number =>
  4 * batch * heads * group * queries * keys * depth * (isCausal ? 0.5 : 1);
const rowOf = (work: Work, by: string, us: number, error: number): Row => ({
  work: work.name,
  by,
  us: rounded(us),
  tflops: rounded(flopsOf(work) / us / 1e6),
  error: rounded(error),
});
const worst = (got: ArrayLike<number>, want: ArrayLike<number>): number => {
  let most = 0;
  for (let i = 0; i < want.length; i++) most = Math.max(most, Number.isNaN(got[i]) ? Number.POSITIVE_INFINITY : Math.abs(got[i] - want[i]));
  return most;
};

/** Kernels and launches of a cut. */
function roundOf(shape: OnlineShape, schedule: OnlineSchedule, device: GpuDevice, operands: readonly GpuMemory[], out: GpuMemory) {
  const { batch, heads, group, queries, keys, depth } = shape;
  const [q, k] = [viewOf(batch, queries, heads * group, depth), viewOf(batch, keys, heads, depth)];
  const first = onlineKernel("online", shape, { q, k, v: k, out: q }, schedule, device.target);
  const range = (memory: GpuMemory) => ({ memory, offset: 0, bytes: memory.bytes });
  const given = operands.map(range);
  if (schedule.parts === 1) return { kernels: [first], launches: [{ kernel: 0, args: [...given, range(out)] }], between: [] };
  const between = [depth, 1].map((n) => device.alloc(4 * linesOf(shape) * schedule.parts * n));
  const second = joinedKernel("joined", shape, q, schedule.parts, device.target);
  const all = between.map(range);
  return { kernels: [first, second], launches: [{ kernel: 0, args: [...given, ...all] }, { kernel: 1, args: [...all, range(out)] }], between }; // biome-ignore format: one idea
}

async function* schedules(work: Work, device: GpuDevice): AsyncGenerator<Row> {
  const shape = shapeOf(work);
  const { batch, heads, group, queries, keys, depth } = shape;
  const places = [queries * group, keys, keys].map((n) => n * batch * heads * depth);
  const operands = places.map((count, i) => fill(device, "f32", count, i + 1).memory);
  const out = device.alloc(4 * places[0]);
  const chosen = JSON.stringify(onlineSchedule(shape, device.target));
  let first: TypedArray | null = null;
  for (const schedule of plans(shape, device)) {
    const { kernels, launches, between } = roundOf(shape, schedule, device, operands, out);
    const { ms } = await replayed(device, kernels, launches, 20);
    const y = await device.read(out, 0, "f32", places[0]);
    first ??= y.slice();
    const { rows, own, tile, across, parts } = schedule;
    const isChosen = JSON.stringify(schedule) === chosen;
    yield rowOf(work, `${rows} queries by ${own}, ${tile} keys by ${across}, parts ${parts}${isChosen ? " (chosen)" : ""}`, 1e3 * ms, worst(y as Float32Array, first as Float32Array)); // biome-ignore format: one idea
    for (const m of between) m.free();
  }
  for (const m of [...operands, out]) m.free();
}

const device = await openAnyDevice({ device: options.device as "cuda" }); // wrong names are openAnyDevice's to refuse
if (!isGpu(device)) throw new Error(`${options.device} is no GPU`);
const rows: Row[] = [];
const note = (row: Row): void => {
  rows.push(row);
  process.stderr.write(`${row.work}, ${row.by}: ${short(row.us)} µs, ${short(row.tflops)} TFLOP/s, ${short(row.error)}\n`);
};
for (const work of WORKS.filter(({ name }) => options.only.split(",").some((part) => name.includes(part)))) {
  const apart = await programOf(work, device, true);
  note(rowOf(work, `products and a softmax (${apart.launches} launches)`, apart.us, 0));
  const own = await programOf(work, device, false);
  note(rowOf(work, `what the program chooses (${own.launches})`, own.us, worst(own.y, apart.y)));
  if (options.schedules) for await (const row of schedules(work, device)) note(row);
}
if (options.json) process.stdout.write(`${JSON.stringify({ gpu: device.description, dtype, rows }, null, 1)}\n`);
else {
  const cells = rows.map((r) => [r.work, r.by, short(r.us), short(r.tflops), short(r.error)]);
  process.stdout.write(`${device.description}\n\n${formatTable(["work", "by", "µs", "TFLOP/s", "error"], cells, { left: [0, 1] })}\n`);
}
await device.close();
