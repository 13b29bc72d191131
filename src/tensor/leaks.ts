// Tells which tensors are still held since leakCheck() was called, and which lines made them.
import { DTYPES } from "../ir/dtype.ts";
import { elementCount } from "../ir/tensor.ts";
import { callSite } from "./call_site.ts";
import type { Storage } from "./trace.ts";

/** Tensors that one line made and that are still held. */
export interface Leak {
  readonly from: string;
  readonly count: number;
  readonly bytes: number;
}

export interface LeakCheck extends Disposable {
  /** What was made since the check began, is not disposed and has not been collected; most bytes first. Run with --expose-gc and call gc() for a sharp answer. */
  report(): readonly Leak[];
  /** Stops looking. */
  stop(): void;
}

interface Live {
  readonly from: string;
  readonly bytes: number;
}

const checks = new Set<Map<WeakRef<Storage>, Live>>();

/** Notes a new tensor, where someone is looking. */
export function recordStorage(storage: Storage): void {
  if (checks.size === 0) return;
  const live: Live = { from: callSite() || "unknown", bytes: elementCount(storage.type.shape) * DTYPES[storage.type.dtype].bytes };
  for (const check of checks) check.set(new WeakRef(storage), live);
}

/** A tensor was disposed. */
export function forgetStorage(storage: Storage): void {
  for (const check of checks) for (const [ref] of check) if (ref.deref() === storage) check.delete(ref);
}

/** Watches tensors from here on. */
export function leakCheck(): LeakCheck {
  const seen = new Map<WeakRef<Storage>, Live>();
  checks.add(seen);
  const stop = (): void => {
    checks.delete(seen);
  };
  const report = (): readonly Leak[] => {
    const leaks = new Map<string, { from: string; count: number; bytes: number }>();
    for (const [ref, { from, bytes }] of seen) {
      if (!ref.deref()) {
        seen.delete(ref);
        continue;
      }
      const leak = leaks.get(from) ?? { from, count: 0, bytes: 0 };
      leak.count++;
      leak.bytes += bytes;
      leaks.set(from, leak);
    }
    return [...leaks.values()].sort((a, b) => b.bytes - a.bytes);
  };
  return { report, stop, [Symbol.dispose]: stop };
}
