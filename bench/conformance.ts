// Runs ONNX's backend test cases through heddle, each in a process that may crash. Options: --device x86|wasm|reference, --threads N, --filter TEXT, --data DIR, --json.
import { type ChildProcess, fork } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { availableParallelism } from "node:os";
import { basename, join } from "node:path";
import { parseArgs } from "node:util";
import { type LoadOptions, runCase, type Status, type Verdict } from "./conformance/case.ts";

interface Result extends Verdict {
  readonly case: string;
}

const DATA = "/usr/share/libonnx-testdata/data";
/** Processes that share a GPU wait for each other where its driver opens and closes devices: more take longer. */
const MOST_ON_GPU: Readonly<Record<string, number>> = { webgpu: 2, cuda: 2 };
/** The slowest case takes a few seconds. */
const PATIENCE_MS = 120_000;

const { values: options } = parseArgs({
  options: {
    device: { type: "string" },
    threads: { type: "string", default: "1" },
    filter: { type: "string", default: "" },
    data: { type: "string", default: DATA },
    json: { type: "boolean", default: false },
    child: { type: "boolean", default: false },
  },
});

/** Folders that hold a model, at any depth, sorted; named from the data folder. */
function findCases(data: string): string[] {
  const files = readdirSync(data, { recursive: true, encoding: "utf8" });
  const folders = files.filter((file) => basename(file) === "model.onnx").map((file) => file.slice(0, -"/model.onnx".length));
  return folders.filter((name) => name.includes(options.filter)).sort();
}

/** The child's side: a case folder comes in, its verdict goes out. */
function serve(): void {
  const load = { cache: false, device: options.device, threads: Number(options.threads) } as LoadOptions; // a wrong name is loadModel's to refuse
  process.on("message", async (folder: string) => process.send?.(await runCase(folder, load)));
}

/** A process that runs cases until one ends it; then the next case starts a new one. */
class Runner {
  private child: ChildProcess | undefined;
  private complaint = "";

  private start(): ChildProcess {
    const child = fork(process.argv[1], [...process.argv.slice(2), "--child"], { stdio: ["ignore", "ignore", "pipe", "ipc"] });
    child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      this.complaint = (this.complaint + text).slice(-2000);
    });
    return child;
  }

  async run(folder: string): Promise<Verdict> {
    this.child ??= this.start();
    this.complaint = "";
    const { child } = this;
    return new Promise((resolve) => {
      const timer = setTimeout(() => child.kill("SIGKILL"), PATIENCE_MS);
      const settle = (verdict: Verdict) => {
        clearTimeout(timer);
        child.removeAllListeners("message").removeAllListeners("exit");
        resolve(verdict);
      };
      child.once("message", (verdict) => settle(verdict as Verdict));
      child.once("exit", (code, signal) => {
        this.child = undefined;
        const how = signal === "SIGKILL" ? `no answer in ${PATIENCE_MS / 1000} s` : `process ended by ${signal ?? `exit code ${code}`}`;
        const last = this.complaint.trim().split("\n").at(-1);
        settle({ status: "crashed", op: "", message: last ? `${how}: ${last}` : how });
      });
      child.send(folder);
    });
  }

  stop(): void {
    this.child?.kill();
  }
}

async function runAll(cases: readonly string[]): Promise<Result[]> {
  const results = new Map<string, Result>();
  const queue = [...cases];
  const work = async () => {
    const runner = new Runner();
    for (let name = queue.shift(); name !== undefined; name = queue.shift()) {
      const verdict = await runner.run(join(options.data, name));
      results.set(name, { case: name, ...verdict });
      if (process.stderr.isTTY) process.stderr.write(`\r${results.size} of ${cases.length}`);
    }
    runner.stop();
  };
  const jobs = Math.max(1, Math.min(MOST_ON_GPU[options.device ?? ""] ?? Number.POSITIVE_INFINITY, Math.floor(availableParallelism() / Number(options.threads)))); // biome-ignore format: short
  await Promise.all(Array.from({ length: jobs }, work));
  if (process.stderr.isTTY) process.stderr.write("\r");
  return cases.map((name) => results.get(name) as Result); // each was set above
}

/** Counts for each operator, those with trouble first, then what the trouble is. */
function table(results: readonly Result[]): string {
  const count = (of: readonly Result[], status: Status) => of.filter((result) => result.status === status).length;
  const names = [...new Set(results.map(({ op }) => op))].sort();
  const rows = names.map((op) => {
    const own = results.filter((result) => result.op === op);
    const cells = (["passed", "failed", "unsupported", "crashed"] as const).map((status) => count(own, status));
    return { op: op || "(crashed)", cells, isClean: cells[0] === own.length };
  });
  rows.sort((a, b) => Number(a.isClean) - Number(b.isClean));
  const line = (op: string, cells: readonly (string | number)[]) => `${op.padEnd(28)}${cells.map((c) => String(c).padStart(13)).join("")}`;
  const trouble = results.filter(({ status }) => status !== "passed").map((r) => `${r.status}: ${r.case}: ${r.message.split("\n")[0]}`);
  return [
    line("operator", ["passed", "failed", "unsupported", "crashed"]),
    ...rows.map(({ op, cells }) => line(op, cells)),
    "",
    ...trouble,
  ].join("\n");
}

async function main(): Promise<void> {
  if (!existsSync(options.data)) throw new Error(`${options.data} is not there; install Debian's package libonnx-testdata`);
  const start = performance.now();
  const results = await runAll(findCases(options.data));
  const seconds = Number(((performance.now() - start) / 1000).toFixed(1));
  const of = (status: Status) => results.filter((r) => r.status === status).map((r) => ({ case: r.case, op: r.op, message: r.message }));
  const passed = of("passed").length;
  const [failed, unsupported, crashed] = [of("failed"), of("unsupported"), of("crashed")];
  if (options.json) {
    const report = { device: options.device ?? "default", total: results.length, passed, failed, unsupported, crashed, seconds };
    process.stdout.write(`${JSON.stringify(report, null, 2)}\n`);
  } else {
    const rest = `${failed.length} failed, ${unsupported.length} unsupported, ${crashed.length} crashed`;
    process.stdout.write(`${table(results)}\n\n${passed} of ${results.length} passed; ${rest}; ${seconds} s\n`);
  }
  process.exitCode = crashed.length > 0 ? 1 : 0;
}

if (options.child) serve();
else {
  await main();
  process.exit(); // children on a GPU may take long to end
}
