// The device that tensors are computed on, and the one queue in which all work for it waits.
import type { CpuDevice } from "../devices/cpu.ts";
import { type DeviceOptions, openDevice } from "../devices/open.ts";

let chosen: DeviceOptions = {};
let opened: Promise<CpuDevice | null> | undefined;
let generation = 0;

/** Called with each change of device, in the queue, before the old one is closed: programs take their state home. */
const leaving = new Set<() => Promise<void> | void>();
export const onDeviceChange = (f: () => Promise<void> | void): void => {
  leaving.add(f);
};

/**
 * Chooses where tensors are computed from here on. Default: {device: "cpu"} with all physical cores; "reference" computes in float64 without compiling.
 * Parameters move along. Errors (no such device) show when something is computed.
 */
export function setDevice(options: DeviceOptions): void {
  const old = opened;
  chosen = options;
  opened = undefined;
  generation++;
  if (!old) return;
  enqueue(async () => {
    for (const leave of leaving) await leave();
    (await old.catch(() => null))?.close();
  }).catch(() => {});
}

/** Which choice of device programs belong to. */
export const deviceGeneration = (): number => generation;
/** Whether nothing is compiled. */
export const isReference = (): boolean => chosen.device === "reference";

/** Null: the float64 reference. */
export function device(): Promise<CpuDevice | null> {
  opened ??= isReference() ? Promise.resolve(null) : openDevice(chosen);
  return opened;
}

let queue: Promise<unknown> = Promise.resolve();
let lastTurn = performance.now();

/** Work in a row waits for nothing but promises, which keeps timers and messages waiting: after this long they get their turn. */
const TURN_MS = 20;

/** Runs `work` after all that was queued before. */
export function enqueue<T>(work: () => Promise<T> | T): Promise<T> {
  const result = queue.then(async () => {
    if (performance.now() - lastTurn > TURN_MS) {
      await new Promise((resolve) => setImmediate(resolve));
      lastTurn = performance.now();
    }
    return work();
  });
  queue = result.catch(() => {});
  return result;
}
