// Hands out 64-byte aligned blocks of a WebAssembly memory that grows as needed, and takes them back.
import { LOWEST_ADDRESS } from "../../codegen/wasm/index.ts";
import { HeddleError } from "../../ir/error.ts";
import type { Memory } from "../cpu.ts";

const PAGE_BYTES = 65536;
const ALIGNMENT = 64;
export const MAX_PAGES = 65536;
/** Fewer, larger steps when memory grows. */
const GROW_PAGES = 16;
export const FIRST_PAGES = LOWEST_ADDRESS / PAGE_BYTES;

interface Block {
  readonly at: number;
  readonly bytes: number;
}

export class Heap {
  /** Free blocks by address; no two touch. */
  private free: Block[] = [];
  /** Memory from here on has never been handed out, and is zero. */
  private fresh = LOWEST_ADDRESS;

  constructor(readonly memory: WebAssembly.Memory) {}

  /** Zeroed bytes. `onFree` is called once, and gives the block back when it calls `release`. */
  alloc(bytes: number, onFree: (memory: Memory, release: () => void) => void): Memory {
    if (!Number.isSafeInteger(bytes) || bytes < 0) throw new HeddleError("bad-argument", `device wasm: ${bytes} is not a number of bytes`);
    const size = Math.max(ALIGNMENT, Math.ceil(bytes / ALIGNMENT) * ALIGNMENT);
    const address = this.take(size);
    const { memory } = this;
    let isFreed = false;
    const block: Memory = {
      address,
      bytes,
      view() {
        if (isFreed) throw new HeddleError("bad-argument", "device wasm: memory used after free()");
        return new Uint8Array(memory.buffer, address, bytes);
      },
      free: () => {
        if (isFreed) return;
        isFreed = true;
        onFree(block, () => this.give({ at: address, bytes: size }));
      },
    };
    return block;
  }

  private take(size: number): number {
    const i = this.free.findIndex((b) => b.bytes >= size);
    if (i >= 0) {
      const { at, bytes } = this.free[i];
      this.free.splice(i, 1, ...(bytes > size ? [{ at: at + size, bytes: bytes - size }] : []));
      new Uint8Array(this.memory.buffer, at, size).fill(0);
      return at;
    }
    const at = this.fresh;
    this.growTo(at + size);
    this.fresh += size;
    return at;
  }

  private growTo(end: number): void {
    const have = this.memory.buffer.byteLength / PAGE_BYTES;
    const want = Math.ceil(end / PAGE_BYTES);
    if (want <= have) return;
    const roomy = Math.min(MAX_PAGES, Math.ceil(want / GROW_PAGES) * GROW_PAGES);
    try {
      this.memory.grow(Math.max(roomy, want) - have);
    } catch (cause) {
      throw new HeddleError(
        "limit",
        `device wasm: ${Math.ceil(end / 2 ** 20)} MiB of memory are not to be had; WebAssembly has at most 4096`,
        {
          cause,
        },
      );
    }
  }

  private give(block: Block): void {
    const i = this.free.findIndex((b) => b.at > block.at);
    const at = i < 0 ? this.free.length : i;
    const [before, after] = [this.free[at - 1], this.free[at]];
    const joinsBefore = before !== undefined && before.at + before.bytes === block.at;
    const joinsAfter = after !== undefined && block.at + block.bytes === after.at;
    const start = joinsBefore ? before.at : block.at;
    const end = joinsAfter ? after.at + after.bytes : block.at + block.bytes;
    this.free.splice(at - Number(joinsBefore), Number(joinsBefore) + Number(joinsAfter), { at: start, bytes: end - start });
  }
}
