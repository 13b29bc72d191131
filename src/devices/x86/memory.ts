// Turns pages of the system into device memory: aligned, viewed by JavaScript without copies, fenced by inaccessible pages on demand.
import { HeddleError } from "../../ir/error.ts";
import type { Memory } from "../cpu.ts";
import { type Native, PAGE } from "./native.ts";

const HUGE = 2 << 20;
const LINE = 64;
const WORD = 8;
const roundUp = (n: number, to: number): number => Math.ceil(n / to) * to;

/** Where an allocation lies inside its mapping. */
interface Placement {
  readonly base: number;
  readonly mapped: number;
  readonly address: number;
}

function plain(native: Native, bytes: number): Placement {
  const mapped = roundUp(bytes, PAGE);
  const base = native.map(mapped);
  return { base, mapped, address: base };
}

/** Aligned to 2 MB, so that the system can back it with huge pages: the first touch of 16 MB then takes 0.8 ms, not 6. */
function huge(native: Native, bytes: number): Placement {
  const mapped = roundUp(bytes, PAGE);
  const start = native.map(mapped + HUGE);
  const base = roundUp(start, HUGE);
  if (base > start) native.unmap(start, base - start);
  native.unmap(base + mapped, start + HUGE - base);
  native.adviseHuge(base, mapped);
  return { base, mapped, address: base };
}

/** Ends (rounded to 8 bytes, at which all elements are aligned) at an inaccessible page, and has another one before its first page. */
function guarded(native: Native, bytes: number): Placement {
  const inner = roundUp(bytes, PAGE);
  const mapped = inner + 2 * PAGE;
  const base = native.map(mapped);
  native.protect(base, PAGE, "none");
  native.protect(base + PAGE + inner, PAGE, "none");
  return { base, mapped, address: base + PAGE + inner - roundUp(bytes, WORD) };
}

/** `bytes` of zeroed memory, 64-byte aligned where there are no guard pages. `release` gets the memory once, when it is freed, and unmaps it when nothing uses it any more. */
export function allocate(
  native: Native,
  bytes: number,
  guardPages: boolean,
  release: (memory: Memory, unmap: () => void) => void = (_, unmap) => unmap(),
): Memory {
  if (!Number.isSafeInteger(bytes) || bytes < 0) throw new HeddleError("bad-argument", `alloc: ${bytes} is not a number of bytes`);
  const size = Math.max(1, bytes);
  const place = guardPages ? guarded(native, size) : size >= 2 * HUGE ? huge(native, size) : plain(native, size);
  let bufferOrFreed: ArrayBuffer | "freed" | undefined;
  const memory: Memory = {
    address: place.address,
    bytes,
    view() {
      if (bufferOrFreed === "freed") throw new HeddleError("verify", "internal: memory read after it was freed");
      bufferOrFreed ??= native.view(place.address, size);
      return new Uint8Array(bufferOrFreed, 0, bytes);
    },
    free() {
      if (bufferOrFreed === "freed") return;
      bufferOrFreed = "freed";
      release(memory, () => native.unmap(place.base, place.mapped));
    },
  };
  return memory;
}

/** Code made executable, never writable at the same time. */
export interface CodeRegion {
  readonly bytes: number;
  /** Address of each block. */
  readonly at: readonly number[];
  free(): void;
}

/** Blocks of code in one, each 64-byte aligned, and the offset of each. */
export function joinCode(blocks: readonly Uint8Array[]): { readonly code: Uint8Array<ArrayBuffer>; readonly at: readonly number[] } {
  const at: number[] = [];
  let bytes = 0;
  for (const block of blocks) {
    at.push(bytes);
    bytes += roundUp(block.length, LINE);
  }
  const code = new Uint8Array(bytes).fill(0xcc); // int3 between blocks
  for (const [i, block] of blocks.entries()) code.set(block, at[i]);
  return { code, at };
}

/** Places blocks of code 64-byte aligned in one mapping: a mapping costs ~40 µs, a block nothing. */
export function placeCode(native: Native, blocks: readonly Uint8Array[]): CodeRegion {
  const { code, at } = joinCode(blocks);
  const mapped = roundUp(Math.max(1, code.length), PAGE);
  const base = native.map(mapped);
  new Uint8Array(native.view(base, mapped)).fill(0xcc, code.length).set(code);
  native.protect(base, mapped, "code");
  return { bytes: code.length, at: at.map((offset) => base + offset), free: () => native.unmap(base, mapped) };
}
