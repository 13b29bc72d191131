// The CUDA driver and its run-time compiler as functions of numbers and arrays, through koffi; handles and addresses are BigInts.
import { readdirSync } from "node:fs";
import type { TypedArray } from "../../ir/dtype.ts";
import { HeddleError } from "../../ir/error.ts";

export type Handle = bigint;
/** Driver calls return a CUresult; 0 is success. */
export type Call = (...args: readonly unknown[]) => number;

/** Driver functions by name, with the C types of their arguments. */
const DRIVER = {
  cuInit: ["uint"],
  cuDriverGetVersion: ["void *"],
  cuDeviceGetCount: ["void *"],
  cuDeviceGet: ["void *", "int"],
  cuDeviceGetName: ["void *", "int", "int"],
  cuDeviceGetAttribute: ["void *", "int", "int"],
  cuDevicePrimaryCtxRetain: ["void *", "int"],
  cuDevicePrimaryCtxRelease_v2: ["int"],
  cuCtxSetCurrent: ["uint64"],
  cuMemGetInfo_v2: ["void *", "void *"],
  cuMemAlloc_v2: ["void *", "uint64"],
  cuMemFree_v2: ["uint64"],
  cuMemHostAlloc: ["void *", "uint64", "uint"],
  cuMemFreeHost: ["uint64"],
  cuMemsetD8Async: ["uint64", "uint8", "uint64", "uint64"],
  cuMemcpyHtoDAsync_v2: ["uint64", "void *", "uint64", "uint64"],
  cuMemcpyDtoHAsync_v2: ["void *", "uint64", "uint64", "uint64"],
  cuStreamCreate: ["void *", "uint"],
  cuStreamDestroy_v2: ["uint64"],
  cuStreamSynchronize: ["uint64"],
  cuStreamQuery: ["uint64"],
  cuStreamWriteValue32_v2: ["uint64", "uint64", "uint", "uint"],
  cuStreamBeginCapture_v2: ["uint64", "int"],
  cuStreamEndCapture: ["uint64", "void *"],
  cuGraphInstantiateWithFlags: ["void *", "uint64", "uint64"],
  cuGraphLaunch: ["uint64", "uint64"],
  cuGraphExecDestroy: ["uint64"],
  cuGraphDestroy: ["uint64"],
  cuEventCreate: ["void *", "uint"],
  cuEventRecord: ["uint64", "uint64"],
  cuEventElapsedTime: ["void *", "uint64", "uint64"],
  cuEventDestroy_v2: ["uint64"],
  cuModuleLoadData: ["void *", "void *"],
  cuModuleUnload: ["uint64"],
  cuModuleGetFunction: ["void *", "uint64", "str"],
  cuFuncSetAttribute: ["uint64", "int", "int"],
  cuLaunchKernel: ["uint64", "uint", "uint", "uint", "uint", "uint", "uint", "uint", "uint64", "void *", "void *"],
  cuLaunchKernelEx: ["void *", "uint64", "void *", "void *"],
  cuGetErrorName: ["int", "void *"],
  cuGetErrorString: ["int", "void *"],
} as const; // biome-ignore format: a table

const COMPILER = {
  nvrtcVersion: ["void *", "void *"],
  nvrtcCreateProgram: ["void *", "str", "str", "int", "void *", "void *"],
  nvrtcCompileProgram: ["uint64", "int", "void *"],
  nvrtcGetProgramLogSize: ["uint64", "void *"],
  nvrtcGetProgramLog: ["uint64", "void *"],
  nvrtcGetCUBINSize: ["uint64", "void *"],
  nvrtcGetCUBIN: ["uint64", "void *"],
  nvrtcGetPTXSize: ["uint64", "void *"],
  nvrtcGetPTX: ["uint64", "void *"],
  nvrtcDestroyProgram: ["void *"],
} as const;

type DriverName = keyof typeof DRIVER;
type CompilerName = keyof typeof COMPILER;

/** CUresults: an allocation that found no memory; work that is still under way. */
export const OUT_OF_MEMORY = 2;
export const NOT_READY = 600;

export interface CudaApi {
  /** Calls the driver; throws HeddleError naming the function and the driver's error. */
  driver(name: DriverName, ...args: readonly unknown[]): void;
  /** The same, but gives the CUresult. */
  attempt(name: DriverName, ...args: readonly unknown[]): number;
  errorText(code: number): string;
  /** A handle or number that the driver writes. */
  handle(name: DriverName, ...rest: readonly unknown[]): Handle;
  /** Address of an array's elements. */
  addressOf(data: TypedArray): bigint;
  /** The 32 bits at an address of the host. */
  wordAt(address: Handle): number;
  /** Functions of the first of these libraries that is there, by name, each with the C types of its arguments; null: there is none. */
  library<Name extends string>(
    names: readonly string[],
    functions: Readonly<Record<Name, readonly string[]>>,
  ): ReadonlyMap<Name, Call> | null;
  /** Calls the compiler, loaded when it is first needed; gives its result code. */
  compiler(name: CompilerName, ...args: readonly unknown[]): number;
}

/** Folders that CUDA's libraries may lie in besides those the loader knows. */
function cudaFolders(): string[] {
  const roots = ["/usr/local", "/opt"];
  const found = roots.flatMap((root) => {
    try {
      return readdirSync(root)
        .filter((name) => name.startsWith("cuda"))
        .sort()
        .reverse()
        .map((name) => `${root}/${name}`);
    } catch {
      return []; // no such folder
    }
  });
  const given = process.env.CUDA_PATH ?? process.env.CUDA_HOME;
  return [...(given ? [given] : []), ...found].flatMap((root) => [`${root}/targets/x86_64-linux/lib`, `${root}/lib64`]);
}

/** Names of a library: as the loader finds it, then in CUDA's folders. */
export const libraryNames = (stem: string, versions: readonly string[]): string[] => {
  const files = versions.map((v) => `${stem}.so${v}`);
  return [...files, ...cudaFolders().flatMap((folder) => files.map((file) => `${folder}/${file}`))];
};

type Koffi = typeof import("koffi");

function loadFirst(koffi: Koffi, names: readonly string[]): ReturnType<Koffi["load"]> | null {
  for (const name of names) {
    try {
      return koffi.load(name);
    } catch {} // the next one may be there
  }
  return null;
}

let loaded: Promise<CudaApi> | undefined;

/** The driver, loaded once. Throws HeddleError("missing") with what is not there. */
export function loadCuda(): Promise<CudaApi> {
  loaded ??= bindings();
  return loaded;
}

async function bindings(): Promise<CudaApi> {
  let koffi: Koffi;
  try {
    koffi = await import("koffi");
  } catch (cause) {
    throw new HeddleError("missing", "device cuda: package koffi cannot be loaded; install it", { cause });
  }
  const library = loadFirst(koffi, ["libcuda.so.1", "nvcuda.dll"]);
  if (!library) throw new HeddleError("missing", "device cuda: no NVIDIA driver (libcuda.so.1 is not found)");
  const functions = new Map<string, Call>();
  const functionOf = (from: typeof library, name: string, types: readonly string[]): Call => {
    const known = functions.get(name);
    if (known) return known;
    const made = from.func(name, "int", [...types]) as Call; // declared in the tables above
    functions.set(name, made);
    return made;
  };
  let compilerLibrary: typeof library | null | undefined;
  const errorText = (code: number): string => {
    const text = (name: "cuGetErrorName" | "cuGetErrorString"): string => {
      const at = new BigUint64Array(1);
      if (functionOf(library, name, DRIVER[name])(code, at) !== 0 || at[0] === 0n) return `error ${code}`;
      return koffi.decode(at[0] as never, "char", -1) as unknown as string; // a C string
    };
    return `${text("cuGetErrorString")} (${text("cuGetErrorName")})`;
  };
  const attempt = (name: DriverName, ...args: readonly unknown[]): number => functionOf(library, name, DRIVER[name])(...args);
  const driver = (name: DriverName, ...args: readonly unknown[]): void => {
    const code = attempt(name, ...args);
    if (code !== 0) throw new HeddleError(code === OUT_OF_MEMORY ? "limit" : "io", `device cuda: ${name}: ${errorText(code)}`);
  };
  return {
    attempt,
    driver,
    errorText,
    handle(name, ...rest) {
      const out = new BigUint64Array(1);
      driver(name, out, ...rest);
      return out[0];
    },
    addressOf: (data) => koffi.address(data),
    wordAt: (address) => koffi.decode(address as never, "uint32_t") as number, // koffi takes addresses as BigInts
    library(names, table) {
      const found = loadFirst(koffi, names);
      if (!found) return null;
      const made = (Object.keys(table) as (keyof typeof table)[]).map(
        (name) => [name, found.func(name, "int", [...table[name]]) as Call] as const,
      ); // declared in the table
      return new Map(made);
    },
    compiler(name, ...args) {
      compilerLibrary ??= loadFirst(koffi, libraryNames("libnvrtc", ["", ".13", ".12", ".11.2"]));
      if (!compilerLibrary)
        throw new HeddleError(
          "missing",
          "device cuda: no run-time compiler (libnvrtc.so is not found); install the CUDA toolkit, or set CUDA_PATH",
        );
      return functionOf(compilerLibrary, name, COMPILER[name])(...args);
    },
  };
}
