// Times writing kernels and turning them into machine code in fresh processes, where nothing is compiled or cached yet: µs an instruction.
// Options: --runs N (processes, default 9), --isa avx512|avx2, --threads N (that the kernels are for, default 1), --json.
import { spawnSync } from "node:child_process";
import { parseArgs } from "node:util";
import koffi from "koffi";
import { spreadOf } from "../src/cli/statistics.ts";
import { formatTable } from "../src/cli/table.ts";
import { short } from "../src/cli/units.ts";
import { avx2Target, avx512Target, emitX86, listX86 } from "../src/codegen/x86/index.ts";
import { call, constant, type Expr } from "../src/ir/expr.ts";
import type { Kernel, Stmt } from "../src/ir/kernel.ts";
import { convKernel, scheduleConv } from "../src/kernels/conv.ts";
import type { Epilogue } from "../src/kernels/epilogue.ts";
import { gemmKernel, scheduleGemm } from "../src/kernels/gemm.ts";
import { slideKernel } from "../src/kernels/slide.ts";
import { softmaxKernel } from "../src/kernels/softmax.ts";
import type { WindowAxis } from "../src/kernels/window.ts";

const { values: options } = parseArgs({
  options: {
    runs: { type: "string", default: "9" },
    isa: { type: "string", default: "avx512" },
    threads: { type: "string", default: "1" },
    json: { type: "boolean", default: false },
    child: { type: "boolean", default: false },
  },
});
const target = (options.isa === "avx2" ? avx2Target : avx512Target)(48 << 10, 2 << 20);
const threads = Number(options.threads);

type Activation = "none" | "hardSwish" | "gelu";
const f32 = (value: number): Expr => constant("f32", value);
const ACTIVATIONS: Readonly<Record<Activation, (x: Expr) => Expr>> = {
  none: (x) => x,
  hardSwish: (x) => call("mul", x, call("min", f32(1), call("max", f32(0), call("add", call("mul", x, f32(1 / 6)), f32(0.5))))),
  gelu: (x) => call("mul", call("mul", x, f32(0.5)), call("add", f32(1), call("erf", call("mul", x, f32(Math.SQRT1_2))))),
};
/** An activation after a contraction with this result. */
const epilogueOf = (shape: readonly number[], activation: Activation): Epilogue => ({
  inputs: [],
  output: { dtype: "f32", shape },
  compose: ([result]) => ({ type: result.type, at: (index) => ACTIVATIONS[activation](result.at(index)) }),
});

function gemm(m: number, n: number, k: number, activation: Activation, tile?: { rows: number; vectors: number }): Kernel {
  const shape = { batch: 1, m, n, k, left: { batch: 0, row: k }, isRightBatched: false, hasBias: true };
  const schedule = scheduleGemm(shape, target);
  return gemmKernel("gemm", shape, { ...schedule, tile: tile ?? schedule.tile }, epilogueOf([m, n], activation), target, threads);
}

/** `size` outputs from as many inputs: a window in the middle, taps cut off at the ends. */
const axis = (size: number, taps: number): WindowAxis => ({
  outputs: size,
  inputs: size,
  taps,
  stride: 1,
  offset: -(taps >> 1),
  dilation: 1,
});

function conv(size: number, channels: number, activation: Activation): Kernel {
  const shape = {
    batch: 1,
    groups: 1,
    inChannels: channels,
    outChannels: channels,
    y: axis(size, 3),
    x: axis(size, 3),
    input: { image: size * size * channels, row: size * channels, pixel: channels, channel: 1 },
    output: { height: size, width: size, y0: 0, yStep: 1, x0: 0, xStep: 1 },
    hasBias: true,
  };
  return convKernel("conv", shape, scheduleConv(shape, target), epilogueOf([1, size, size, channels], activation), target, threads);
}

function depthwise(size: number, channels: number, activation: Activation): Kernel {
  const output = { height: size, width: size, y0: 0, yStep: 1, x0: 0, xStep: 1 };
  const shape = { batch: 1, channels, y: axis(size, 5), x: axis(size, 5), combine: "multiply", hasBias: true, output } as const;
  return slideKernel("depthwise", shape, epilogueOf([1, size, size, channels], activation), target, threads);
}

/** Layers of one network, each for several image sizes and channels. */
const LAYERS: readonly (readonly [name: string, write: (size: number, channels: number) => Kernel])[] = [
  ["gemm 4×6", (size, n) => gemm(size * size, n, 96, "none", { rows: 4, vectors: 6 })],
  ["gemm 14×2, hard swish", (size, n) => gemm(size * size, n, 80, "hardSwish", { rows: 14, vectors: 2 })],
  ["gemm, deep, GELU", (size, n) => gemm(size, n, 1024, "gelu")],
  ["conv 3×3", (size, channels) => conv(size, channels, "none")],
  ["conv 3×3, hard swish", (size, channels) => conv(size, channels, "hardSwish")],
  ["depthwise 5×5, hard swish", (size, channels) => depthwise(size, channels, "hardSwish")],
  [
    "softmax",
    (size, channels) => softmaxKernel("softmax", { outer: size, size: channels, inner: size === 7 ? 7 : 1, isLog: false }, target, threads),
  ],
];
const SIZES: readonly (readonly [size: number, channels: number])[] = [
  [40, 24],
  [20, 80],
  [14, 240],
  [7, 488],
];

/** Sums over the sizes. */
interface Row {
  readonly name: string;
  statements: number;
  instructions: number;
  writeMs: number;
  compileMs: number;
}
const newRow = (name: string): Row => ({ name, statements: 0, instructions: 0, writeMs: 0, compileMs: 0 });
const add = (to: Row, from: Omit<Row, "name">): void => {
  to.statements += from.statements;
  to.instructions += from.instructions;
  to.writeMs += from.writeMs;
  to.compileMs += from.compileMs;
};

const statementsOf = (body: readonly Stmt[]): number =>
  body.reduce((n, s) => n + 1 + ("body" in s ? statementsOf(s.body) : 0) + ("otherwise" in s ? statementsOf(s.otherwise) : 0), 0);
const instructionsOf = (kernel: Kernel): number => listX86(kernel, target).match(/^ *[0-9a-f]+ {2}[0-9a-f]/gm)?.length ?? 0;

const clock = koffi.load("libc.so.6").func("clock_gettime", "int", ["int", "_Out_ int64 *"]);
const THREAD_CPUTIME = 3;
const time = new BigInt64Array(2);
/** Milliseconds that this thread has had a processor: what else runs on the machine hardly matters. */
function processorMs(): number {
  clock(THREAD_CPUTIME, time);
  return Number(time[0]) * 1e3 + Number(time[1]) / 1e6;
}

/** In a process that has done nothing else; the last row is all of it. */
function measure(): Row[] {
  const times = SIZES.flatMap(([size, channels]) =>
    LAYERS.map(([name, write]) => {
      const start = processorMs();
      const kernel = write(size, channels);
      const written = processorMs();
      emitX86(kernel, target);
      return { name, kernel, writeMs: written - start, compileMs: processorMs() - written };
    }),
  );
  const rows = LAYERS.map(([name]) => newRow(name));
  const all = newRow("all");
  for (const { name, kernel, writeMs, compileMs } of times) {
    const part = { statements: statementsOf(kernel.body), instructions: instructionsOf(kernel), writeMs, compileMs };
    add(rows.find((r) => r.name === name)!, part); // a layer's name
    add(all, part);
  }
  return [...rows, all];
}

/** Other programs only make a process slower. */
const best = (runs: readonly Row[]): Row => ({
  ...runs[0],
  writeMs: Math.min(...runs.map((r) => r.writeMs)),
  compileMs: Math.min(...runs.map((r) => r.compileMs)),
});

function main(): void {
  const args = [...process.execArgv, process.argv[1], "--child", "--isa", options.isa, "--threads", options.threads];
  const runs = Array.from({ length: Number(options.runs) }, (): Row[] => {
    const { stdout, stderr, status } = spawnSync(process.execPath, args, { encoding: "utf8" });
    if (status !== 0) throw new Error(stderr);
    return JSON.parse(stdout);
  });
  const rows = runs[0].map((_, i) => best(runs.map((run) => run[i])));
  const median = spreadOf(runs.map((run) => run[run.length - 1].writeMs + run[run.length - 1].compileMs)).median;
  if (options.json) {
    process.stdout.write(`${JSON.stringify({ isa: options.isa, threads, medianMs: median, best: rows }, null, 2)}\n`);
    return;
  }
  const cells = rows.map((r) => [
    r.name,
    `${r.statements}`,
    `${r.instructions}`,
    short(r.writeMs),
    short(r.compileMs),
    short((1e3 * r.writeMs) / r.statements),
    short((1e3 * r.compileMs) / r.instructions),
  ]);
  const header = ["kernel", "statements", "instructions", "write ms", "compile ms", "µs/statement", "µs/instruction"];
  process.stdout.write(`${formatTable(header, cells)}\n\nbest of ${runs.length} processes; median of the sum ${short(median)} ms\n`);
}

if (options.child) process.stdout.write(JSON.stringify(measure()));
else main();
