// Refuses what a device does not multiply.
import { HeddleError } from "../ir/error.ts";
import { PRECISIONS, type Precision } from "../ir/precision.ts";
import type { Device } from "./open.ts";

/** `device` null: the float64 reference. Throws HeddleError("bad-argument"). */
export function assertPrecision(device: Pick<Device, "name"> | null, precision: Precision = "f32"): void {
  if (!PRECISIONS.includes(precision))
    throw new HeddleError("bad-argument", `precision ${precision}: there is none of that name, only ${PRECISIONS.join(", ")}`);
  if ((precision === "tf32" || precision === "f8") && device?.name !== "cuda")
    throw new HeddleError(
      "bad-argument",
      `precision ${precision}: device ${device?.name ?? "reference"} does not multiply it, only cuda does; bf16 and f16 are for every device`,
    );
}
