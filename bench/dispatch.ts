// Measures what launching costs on a CPU device: an empty region on awake threads, one more launch in a region, waking sleepers. Options: --json, --threads N, --device x86|wasm.
import { machineFacts, physicalCores } from "../src/devices/machine.ts";
import { openWasm } from "../src/devices/wasm/index.ts";
import { openX86 } from "../src/devices/x86/index.ts";
import { KernelBuilder } from "../src/ir/kernel.ts";

interface Row {
  readonly what: string;
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
}

const MANY = 1000;

function row(what: string, microseconds: number[]): Row {
  const sorted = microseconds.toSorted((a, b) => a - b);
  const at = (share: number): number => Number(sorted[Math.floor(sorted.length * share)].toFixed(3));
  return { what, p50: at(0.5), p90: at(0.9), p99: at(0.99) };
}

function timed(run: () => void): number {
  const start = performance.now();
  run();
  return (performance.now() - start) * 1e3;
}

const repeat = (times: number, run: () => void): number[] => Array.from({ length: times }, () => timed(run));

const open = process.argv.includes("wasm") ? openWasm : openX86;

async function measure(threads: number): Promise<Row[]> {
  const opened = performance.now();
  const device = await open({ threads });
  const empty = new KernelBuilder("empty", device.target, threads).build();
  const list = await device.load([empty], new Array(MANY).fill({ kernel: 0, args: [] }));
  list.run(0, 1);
  const cold = (performance.now() - opened) * 1e3;
  repeat(2000, () => list.run(0, 1));
  const awake = repeat(20_000, () => list.run(0, 1));
  const more = repeat(200, () => list.run(0, MANY)).map((us) => us / MANY);
  const asleep: number[] = [];
  for (let i = 0; i < 200; i++) {
    await new Promise((resolve) => setTimeout(resolve, 3)); // long past the time that workers poll
    asleep.push(timed(() => list.run(0, 1)));
  }
  const offThread: number[] = [];
  for (let i = 0; i < 200; i++) {
    const start = performance.now();
    await list.runAsync(0, 1);
    offThread.push((performance.now() - start) * 1e3);
  }
  device.close();
  return [
    row("open, load, first run", [cold]),
    row("empty region, threads awake", awake),
    row("one more launch in a region", more),
    row("empty region, threads asleep", asleep),
    row("empty region, asynchronous", offThread),
  ];
}

const { argv } = process;
const at = argv.indexOf("--threads");
const threads = at < 0 ? [...new Set([1, Math.min(2, physicalCores()), physicalCores()])] : [Number(argv[at + 1])];
const results = [];
for (const n of threads) results.push({ threads: n, microseconds: await measure(n) });
if (argv.includes("--json")) console.log(JSON.stringify({ cpu: machineFacts().cpu, results }));
else
  for (const { threads: n, microseconds } of results) {
    console.log(`${n} thread${n > 1 ? "s" : ""}, µs`.padEnd(34), "p50".padStart(10), "p90".padStart(10), "p99".padStart(10));
    for (const { what, p50, p90, p99 } of microseconds)
      console.log(what.padEnd(34), ...[p50, p90, p99].map((v) => v.toFixed(2).padStart(10)));
  }
