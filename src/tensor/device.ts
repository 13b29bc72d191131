// The device that tensors are computed on, and the one queue in which all work for it waits.
import { type Device, type DeviceOptions, openAnyDevice } from "../devices/open.ts";
import { assertPrecision } from "../devices/precision.ts";
import { HeddleError } from "../ir/error.ts";
import { type Precision, TRAINING_PRECISIONS } from "../ir/precision.ts";

let chosen: DeviceOptions = {};
let opened: Promise<Device | null> | undefined;

/** Called with each change of device, while the old one still works what is queued. */
const leaving = new Set<() => void>();
export const onDeviceChange = (f: () => void): void => {
  leaving.add(f);
};

/**
 * Chooses where tensors are computed from here on. Default: {device: "cpu"} with all physical cores; "webgpu" and "cuda" are GPUs; "reference" computes in float64 without compiling.
 * Parameters move along. Errors (no such device) show when something is computed.
 */
export function setDevice(options: DeviceOptions): void {
  const old = opened;
  for (const leave of leaving) leave();
  chosen = options;
  opened = undefined;
  if (old) enqueue(async () => (await old.catch(() => null))?.close()).catch(() => {});
}

/** Whether nothing is compiled. */
export const isReference = (): boolean => chosen.device === "reference";

/** Null: the float64 reference. */
export function device(): Promise<Device | null> {
  if (!opened) {
    opened = isReference() ? Promise.resolve(null) : openAnyDevice(chosen);
    opened.catch(() => {}); // whoever computes on it sees it, which may be some turns later
  }
  return opened;
}

/** Throws HeddleError("bad-argument") where training does not multiply that, or the device does not. */
export async function assertMultiplies(precision: Precision): Promise<void> {
  if (!TRAINING_PRECISIONS.includes(precision))
    throw new HeddleError(
      "bad-argument",
      `precision ${precision}: there is none of that name in training, only ${TRAINING_PRECISIONS.join(", ")}`,
    );
  assertPrecision(await device(), precision);
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
