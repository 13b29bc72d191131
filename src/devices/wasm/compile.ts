// Bytes of a module to a compiled module in the engine's best tier, and what the engine can do, found out by trying.
import { buildModule, FunctionWriter } from "../../codegen/wasm/index.ts";
import { HeddleError } from "../../ir/error.ts";
import type { Host } from "./host.ts";

// Node's engine: the optimizing compiler at once, for all functions.
const BEST_TIER = ["--no-liftoff", "--no-wasm-lazy-compilation"];
const USUAL_TIER = ["--liftoff", "--wasm-lazy-compilation"];
/** Node 20 has relaxed SIMD but offers it only when asked; later versions no longer know the flag. */
const RELAXED = "--experimental-wasm-relaxed-simd";
const NOT_RELAXED = "--no-experimental-wasm-relaxed-simd";
let compiling = 0;

/** Flags are the process's own, so they are set for the time of compiling only. */
async function withFlags<T>(host: Host, work: () => Promise<T>): Promise<T> {
  const needsRelaxed = !hasRelaxedUnasked;
  if (compiling++ === 0) host.setFlags(needsRelaxed ? [...BEST_TIER, RELAXED] : BEST_TIER);
  try {
    return await work();
  } finally {
    if (--compiling === 0) host.setFlags(needsRelaxed ? [...USUAL_TIER, NOT_RELAXED] : USUAL_TIER);
  }
}

export async function compileModule(host: Host, bytes: Uint8Array<ArrayBuffer>): Promise<WebAssembly.Module> {
  try {
    return await withFlags(host, () => WebAssembly.compile(bytes));
  } catch (cause) {
    throw new HeddleError("verify", `device wasm: the engine refuses the generated module: ${(cause as Error).message}`, { cause }); // compile() rejects with errors
  }
}

/** 2·3 + 5 by relaxed_madd in the first lane, and a lane select. */
function relaxedProbe(): Uint8Array<ArrayBuffer> {
  const f = new FunctionWriter([]);
  for (const value of [2, 3, 5]) {
    f.op("f32.const", value);
    f.op("f32x4.splat");
  }
  f.op("f32x4.relaxed_madd");
  for (const bits of [0, -1]) {
    f.i32(bits);
    f.op("i32x4.splat");
  }
  f.op("i32x4.relaxed_laneselect");
  f.op("f32x4.extract_lane", 0);
  return buildModule([{ params: [], results: ["f32"], body: f.finish(), exportName: "probe" }], { sharedMemory: false });
}

function simdProbe(): Uint8Array<ArrayBuffer> {
  const f = new FunctionWriter([]);
  f.i32(0);
  f.op("i32x4.splat");
  f.op("drop");
  return buildModule([{ params: [], results: [], body: f.finish() }], { sharedMemory: false });
}

const relaxedModule = relaxedProbe();
const hasRelaxedUnasked = typeof WebAssembly !== "undefined" && WebAssembly.validate(relaxedModule);

/** Throws where the engine has no SIMD; gives whether it has relaxed SIMD with the operand order of the standard. */
export async function hasRelaxedSimd(host: Host): Promise<boolean> {
  if (!WebAssembly.validate(simdProbe())) throw new HeddleError("missing", "device wasm: this JavaScript engine has no WebAssembly SIMD");
  return withFlags(host, async () => {
    if (!WebAssembly.validate(relaxedModule)) return false;
    const memory = new WebAssembly.Memory({ initial: 0 });
    const { instance } = await WebAssembly.instantiate(relaxedModule, { env: { memory } });
    return (instance.exports.probe as () => number)() === 11; // the module exports nothing else
  });
}
