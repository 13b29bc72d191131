// What layers of a density will take on this machine: by the same prediction by which their kernels will be chosen.
import { type DeviceOptions, isGpuName, openDevice } from "../../devices/open.ts";
import { HeddleError } from "../../ir/error.ts";
import { productMs } from "../../run/implement/sparse_forecast.ts";
import { learnedRates } from "../../run/sparse_rates.ts";
import type { LayerCost } from "./prune_onnx.ts";

/** Products get sparse kernels where these pay; other layers gain nothing from zeros. Throws HeddleError ("unsupported"). */
export async function predictedCost(options: DeviceOptions): Promise<LayerCost> {
  if (isGpuName(options.device))
    throw new HeddleError("unsupported", `prune: times are predicted for processors only, not for device ${options.device}`);
  const device = await openDevice(options);
  try {
    const machine = { target: device.target, threads: device.threads, rates: await learnedRates(device) };
    return ({ rows, columns, positions, isProduct }, density) =>
      productMs({ rows, depth: columns, n: positions }, isProduct ? density : 1, machine);
  } finally {
    device.close();
  }
}
