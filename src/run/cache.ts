// Keeps compiled programs in a folder of the user's, so that the next process with the same model, shapes and machine need not compile.
import { createHash } from "node:crypto";
import { utimes } from "node:fs/promises";
import { join } from "node:path";
import { chooseFolder, MOST_BYTES, makeOurs, removeOldest, Unusable } from "../devices/cache_folder.ts";
import type { CompiledKernel } from "../devices/cpu.ts";
import { type Device, isGpu } from "../devices/open.ts";
import { buildId } from "./build_id.ts";
import { CheckedFile, writeChecked } from "./checked_file.ts";
import type { GpuProgram } from "./gpu/program.ts";
import type { StoredGpuProgram } from "./gpu/stored.ts";
import type { ProgramPlan } from "./image.ts";
import { Program } from "./program.ts";

const SUFFIX = ".heddle";

export interface CacheOptions {
  /** false: none; a folder; undefined: what HEDDLE_CACHE says ("off", or a folder), or else the system's folder for caches. */
  readonly cache?: false | string;
}

/** A program's code and constants follow as parts. */
interface StoredProgram extends ProgramPlan {
  readonly kernels: readonly CompiledKernel[];
}
interface Stored {
  readonly key: string;
  readonly value: unknown;
}

/** Says at HEDDLE_DEBUG=1 and above what the cache does, and why it does not. */
function say(message: string): void {
  if (Number(process.env.HEDDLE_DEBUG) >= 1) process.stderr.write(`heddle: cache: ${message}\n`);
}

/** The cache, or null where there is to be none or cannot be one. */
export function openCache({ cache }: CacheOptions, mostBytes = MOST_BYTES): ProgramCache | null {
  try {
    const folder = chooseFolder(cache);
    if (!folder) return null;
    makeOurs(folder);
    return new ProgramCache(folder, mostBytes);
  } catch (e) {
    say(`not used: ${(e as Error).message}`); // the system's errors and ours
    return null;
  }
}

/** Nothing in here throws: what does not work is compiled again. */
export class ProgramCache {
  /** Use openCache. */
  constructor(
    readonly folder: string,
    private readonly mostBytes: number,
  ) {}

  private path(key: string): string {
    return join(this.folder, createHash("sha256").update(key).digest("hex").slice(0, 40) + SUFFIX);
  }

  /** What is kept under a key, for `use`; null where there is nothing that can be used. */
  private async read<T>(key: string, use: (value: unknown, file: CheckedFile) => T | Promise<T>): Promise<T | null> {
    const path = this.path(key);
    try {
      const file = CheckedFile.open(path);
      if (!file) return null;
      try {
        const stored = file.data as Stored; // what write() wrote, by its hash
        if (stored.key !== key) throw new Unusable("it is kept under another key");
        return await use(stored.value, file);
      } finally {
        file.close();
      }
    } catch (e) {
      say(`${path} is not used: ${(e as Error).message}`);
      return null;
    }
  }

  private async write(key: string, value: unknown, parts: readonly Uint8Array[]): Promise<void> {
    const path = this.path(key);
    try {
      await writeChecked(path, { key, value } satisfies Stored, parts);
      say(`${path} written`);
      await removeOldest(this.folder, this.mostBytes);
    } catch (e) {
      say(`${path} cannot be written: ${(e as Error).message}`);
    }
  }

  /** Small facts about what a key names. */
  readFacts<T>(key: string): Promise<T | null> {
    return this.read(factsKey(key), (value) => value as T); // the key says what it is
  }
  writeFacts(key: string, facts: unknown): Promise<void> {
    return this.write(factsKey(key), facts, []);
  }

  /** Loads the program kept for this device; null: there is none. */
  async load(key: string, device: Device): Promise<Program | GpuProgram | null> {
    const start = performance.now();
    const full = programKey(key, device);
    const program = await this.read<Program | GpuProgram>(full, async (value, file) => {
      // The key says what it is.
      if (isGpu(device)) return (await import("./gpu/stored.ts")).loadStored(device, value as StoredGpuProgram, file);
      const { kernels, ...plan } = value as StoredProgram;
      return Program.load(device, plan, (memories) => {
        const code = new Uint8Array(file.parts[0]);
        file.read(code);
        for (const [i, { isConstant }] of plan.memories.entries()) if (isConstant) file.read(memories[i].view());
        return { code, kernels };
      });
    });
    if (program) {
      say(`${this.path(full)} loaded in ${(performance.now() - start).toFixed(1)} ms`);
      const now = new Date();
      utimes(this.path(full), now, now).catch(() => {}); // used now: others go first
    }
    return program;
  }

  /** Keeps a program, which must live until this resolves. */
  async store(key: string, device: Device, program: Program | GpuProgram): Promise<void> {
    const { value, parts } = isOnCpu(program) ? storedForm(program) : (await import("./gpu/stored.ts")).storedForm(program);
    await this.write(programKey(key, device), value, parts);
  }
}

const factsKey = (key: string): string => JSON.stringify(["facts", buildId(), key]);
const isOnCpu = (program: Program | GpuProgram): program is Program => "compiled" in program.image;

function storedForm(program: Program): { value: StoredProgram; parts: readonly Uint8Array[] } {
  const { compiled, ...plan } = program.image;
  return { value: { ...plan, kernels: compiled.kernels }, parts: [compiled.code, ...program.constants()] };
}

const programKey = (key: string, device: Device): string => JSON.stringify(["program", buildId(), device.codeKey, key]);
