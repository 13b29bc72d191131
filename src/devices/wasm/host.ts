// What the WebAssembly device needs of the place it runs in, the same for Node and browsers: workers, cores, compiler flags.
import { HeddleError } from "../../ir/error.ts";

export interface HostWorker {
  post(message: unknown): void;
  onMessage(handle: (message: unknown) => void): void;
  /** Called once, when the worker fails or ends by itself. */
  onFailure(handle: (cause: unknown) => void): void;
  /** Whether the worker keeps the process alive. */
  hold(isHeld: boolean): void;
  terminate(): void;
}

export interface Host {
  readonly cores: number;
  /** Whether memory can be shared between threads. */
  readonly canShare: boolean;
  /** Whether this thread may sleep. */
  readonly canBlock: boolean;
  startWorker(source: string, name: string): HostWorker;
  /** Sets options of the engine, where there is a way to. */
  setFlags(flags: readonly string[]): void;
}

// Named at run time only, so that bundlers for browsers do not look for them.
const nodeModule = async <T>(name: string): Promise<T> => (await import(/* @vite-ignore */ name)) as T; // the caller names the module's own type

async function nodeHost(): Promise<Host> {
  const { Worker: NodeWorker } = await nodeModule<typeof import("node:worker_threads")>("node:worker_threads");
  const { availableParallelism } = await nodeModule<typeof import("node:os")>("node:os");
  const { setFlagsFromString } = await nodeModule<typeof import("node:v8")>("node:v8");
  return {
    cores: availableParallelism(),
    canShare: true,
    canBlock: true,
    setFlags(flags) {
      for (const flag of flags) setFlagsFromString(flag);
    },
    startWorker(source, name) {
      const worker = new NodeWorker(source, { eval: true, execArgv: [], name });
      let hasEnded = false;
      return {
        post: (message) => worker.postMessage(message),
        onMessage: (handle) => worker.on("message", handle),
        onFailure(handle) {
          const once = (cause: unknown): void => {
            if (hasEnded) return;
            hasEnded = true;
            handle(cause);
          };
          worker.on("error", once);
          worker.on("exit", once);
        },
        hold: (isHeld) => (isHeld ? worker.ref() : worker.unref()),
        terminate() {
          hasEnded = true;
          worker.terminate().catch(() => {}); // it is gone either way
        },
      };
    },
  };
}

function browserHost(): Host {
  return {
    cores: navigator.hardwareConcurrency,
    canShare: typeof SharedArrayBuffer === "function" && globalThis.crossOriginIsolated,
    canBlock: typeof document === "undefined",
    setFlags() {},
    startWorker(source, name) {
      const url = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
      const worker = new Worker(url, { name });
      return {
        post: (message) => worker.postMessage(message),
        onMessage(handle) {
          worker.onmessage = (event) => handle(event.data);
        },
        onFailure(handle) {
          worker.onerror = handle;
        },
        hold() {},
        terminate() {
          worker.terminate();
          URL.revokeObjectURL(url);
        },
      };
    },
  };
}

let host: Promise<Host> | undefined;

/** The place this runs in. Throws where there is no WebAssembly. */
export function currentHost(): Promise<Host> {
  if (typeof WebAssembly === "undefined") throw new HeddleError("missing", "device wasm: this JavaScript engine has no WebAssembly");
  const isNode = typeof process !== "undefined" && typeof process.versions?.node === "string";
  host ??= isNode ? nodeHost() : Promise.resolve(browserHost());
  return host;
}
