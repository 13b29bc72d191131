// NumPy's .npz archives ↔ tensors by name.
import { unzipSync, zipSync } from "fflate";
import { HeddleError } from "../ir/error.ts";
import type { TensorData } from "../ir/tensor.ts";
import { readNpy, writeNpy } from "./npy.ts";

/** Archives that unpack to more are refused. */
const MAX_BYTES = 2 ** 32;

/** All arrays of an archive. Throws HeddleError ("bad-input", "unsupported", "limit"). */
export function readNpz(bytes: Uint8Array): Record<string, TensorData> {
  let total = 0;
  let files: Record<string, Uint8Array>;
  try {
    files = unzipSync(bytes, {
      filter({ name, originalSize }) {
        total += originalSize;
        if (total > MAX_BYTES) throw new HeddleError("limit", `npz: ${name} and those before it unpack to more than 4 GiB`);
        return name.endsWith(".npy");
      },
    });
  } catch (cause) {
    if (cause instanceof HeddleError) throw cause;
    throw new HeddleError("bad-input", `npz: not a valid archive (${cause instanceof Error ? cause.message : String(cause)})`, { cause });
  }
  return Object.fromEntries(Object.entries(files).map(([file, data]) => [file.slice(0, -4), readNpy(data, `npz: ${file}`)]));
}

/** A fixed date, so that equal tensors give equal bytes. */
const DATE = new Date(1980, 0, 1);

/** An archive; compressed only when asked, because floats hardly shrink. */
export function writeNpz(tensors: Readonly<Record<string, TensorData>>, options: { compress?: boolean } = {}): Uint8Array {
  const level = options.compress ? 6 : 0;
  const files = Object.fromEntries(Object.entries(tensors).map(([name, tensor]) => [`${name}.npy`, writeNpy(tensor)]));
  return zipSync(files, { level, mtime: DATE });
}
