// Starts fresh processes that import an engine, load a model and run it once, and measures the time from start to first output and the memory.
import { spawn } from "node:child_process";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { HeddleError } from "../ir/error.ts";
import type { LoadOptions } from "../model.ts";
import type { InputType } from "./open_model.ts";
import { builtPackage, findPackage } from "./packages.ts";
import { onnxruntimeSettings, type RivalName } from "./rivals.ts";
import { rounded, spreadOf } from "./statistics.ts";

export interface ColdStart {
  /** Median, from the start of the process to the first output. */
  readonly ms: number;
  /** Median of the largest resident set. */
  readonly rssBytes: number;
}

export interface ColdEngine {
  readonly name: string;
  /** Body of an async function of `job`, run in the child. */
  readonly script: string;
  readonly job: unknown;
  /** Started once before the others, to its natural end: what it keeps on disk is there then. */
  readonly isPrepared?: boolean;
}

interface Job {
  /** URL of the package to import. */
  readonly url: string;
  readonly path: string;
  readonly inputs: readonly InputType[];
}

/** Zeros for all inputs: as { name, dtype, shape, data }. */
const TENSORS = `
const ARRAYS = { f32: Float32Array, f64: Float64Array, f16: Uint16Array, bf16: Uint16Array, i8: Int8Array, u8: Uint8Array, i16: Int16Array,
  u16: Uint16Array, i32: Int32Array, u32: Uint32Array, i64: BigInt64Array, u64: BigUint64Array, bool: Uint8Array };
const tensors = job.inputs.map((t) => ({ ...t, data: new ARRAYS[t.dtype](t.shape.reduce((n, d) => n * d, 1)) }));`;

const HEDDLE = `const { loadModel } = await import(job.url);
${TENSORS}
const model = await loadModel(job.path, job.options);
await model.run(Object.fromEntries(tensors.map(({ name, ...tensor }) => [name, tensor])));`;

const ONNXRUNTIME = `const loaded = await import(job.url);
const ort = loaded.default ?? loaded;
${TENSORS}
const TYPES = { f32: "float32", f64: "float64", f16: "float16", i8: "int8", u8: "uint8", i16: "int16", u16: "uint16", i32: "int32", u32: "uint32",
  i64: "int64", u64: "uint64", bool: "bool" };
if (job.wasmThreads) ort.env.wasm.numThreads = job.wasmThreads;
const source = job.wasmThreads ? (await import("node:fs")).readFileSync(job.path) : job.path;
const session = await ort.InferenceSession.create(source, job.options);
await session.run(Object.fromEntries(tensors.map((t) => [t.name, new ort.Tensor(TYPES[t.dtype], t.data, t.shape)])));`;

/** process.exit at the end: threads that idle must not count as start-up. Without it, what is being saved is saved. */
const program = (body: string, isWhole: boolean): string => `const job = JSON.parse(process.argv[1]);
${body}
const at = performance.timeOrigin + performance.now();
process.stdout.write(JSON.stringify({ at, rssBytes: process.resourceUsage().maxRSS * 1024 }) + "\\n"${isWhole ? "" : ", () => process.exit(0)"});`;

const job = (file: string, path: string, inputs: readonly InputType[]): Job => ({
  url: pathToFileURL(file).href,
  path: resolve(path),
  inputs,
});

/** heddle itself. Throws HeddleError("missing") where it runs from sources that were not built. */
export function coldHeddle(path: string, inputs: readonly InputType[], options: LoadOptions, name = "heddle"): ColdEngine {
  const file = builtPackage();
  if (!file) throw new HeddleError("missing", "cold start: dist/index.js is not built; npm run build, or leave this out with --no-cold");
  return { name, script: HEDDLE, job: { ...job(file, path, inputs), options }, isPrepared: options.cache !== false };
}

/** A rival, or undefined for those without a package of their own. */
export function coldRival(rival: RivalName, path: string, inputs: readonly InputType[], threads: number): ColdEngine | undefined {
  const isWeb = rival === "onnxruntime-web";
  if (rival !== "onnxruntime" && !isWeb)
    return rival === "wasm" ? coldHeddle(path, inputs, { device: "wasm", threads }, "wasm") : undefined;
  const file = findPackage(isWeb ? "onnxruntime-web" : "onnxruntime-node");
  if (!file) return undefined;
  return {
    name: rival,
    script: ONNXRUNTIME,
    job: { ...job(file, path, inputs), options: onnxruntimeSettings(threads), wasmThreads: isWeb ? threads : 0 },
  };
}

/** Engines in turns, `times` processes each. */
export async function measureColdStarts(engines: readonly ColdEngine[], times = 5): Promise<Record<string, ColdStart>> {
  const results = engines.map((): { ms: number; rssBytes: number }[] => []);
  for (const engine of engines) if (engine.isPrepared) await startOnce(engine, true);
  for (let i = 0; i < times; i++) for (const [e, engine] of engines.entries()) results[e].push(await startOnce(engine));
  return Object.fromEntries(
    engines.map(({ name }, e) => {
      const ms = rounded(spreadOf(results[e].map((r) => r.ms)).median);
      return [name, { ms, rssBytes: Math.round(spreadOf(results[e].map((r) => r.rssBytes)).median) }];
    }),
  );
}

/** A model that does not start within this is not going to. */
const PATIENCE_MS = 120_000;

function startOnce({ name, script, job }: ColdEngine, isWhole = false): Promise<ColdStart> {
  const start = performance.timeOrigin + performance.now();
  const child = spawn(process.execPath, ["--input-type=module", "-e", program(script, isWhole), JSON.stringify(job)], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  const kill = () => child.kill("SIGKILL");
  process.once("exit", kill);
  const timer = setTimeout(kill, PATIENCE_MS);
  let [out, complaint] = ["", ""];
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    out += text;
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    complaint = (complaint + text).slice(-2000);
  });
  return new Promise<ColdStart>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code, signal) => {
      clearTimeout(timer);
      process.removeListener("exit", kill);
      const line = out.trim().split("\n").at(-1) ?? "";
      if (code === 0 && line.startsWith("{")) {
        const { at, rssBytes } = JSON.parse(line) as { at: number; rssBytes: number }; // the child's line
        return resolve({ ms: at - start, rssBytes });
      }
      const why = /^\w*Error: .*$/m.exec(complaint)?.[0] ?? `ended by ${signal ?? `exit code ${code}`}`;
      reject(new HeddleError("io", `cold start of ${name}: ${why}`));
    });
  });
}
