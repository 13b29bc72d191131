// Follows launches as they end, so that an error that comes later names the kernel: after each the GPU writes how many have ended to memory of the host.
import type { CudaApi, Handle } from "./driver.ts";

/** Of cuMemHostAlloc: seen by all contexts, and by the GPU. */
const PORTABLE_AND_MAPPED = 3;

export class FollowedLaunches {
  private readonly word: Handle;
  /** Names of launches since the stream was last empty, and how many there were before. */
  private names: string[] = [];
  private before = 0;

  constructor(
    private readonly cuda: CudaApi,
    private readonly stream: Handle,
  ) {
    this.word = cuda.handle("cuMemHostAlloc", 8, PORTABLE_AND_MAPPED);
  }

  /** To be called after a launch. */
  add(name: string): void {
    this.names.push(name);
    this.cuda.attempt("cuStreamWriteValue32_v2", this.stream, this.word, this.before + this.names.length, 0); // without it no launch is told to have ended
  }
  /** The stream is empty. */
  clear(): void {
    this.before += this.names.length;
    this.names = [];
  }
  /** The first that has not ended, after an error; undefined: all have. */
  failed(): string | undefined {
    return this.names[Math.max(0, this.cuda.wordAt(this.word) - this.before)];
  }
  close(): void {
    this.cuda.attempt("cuMemFreeHost", this.word);
  }
}
