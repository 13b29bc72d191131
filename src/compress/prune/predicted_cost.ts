// What layers of a density will take on this machine: by the same prediction by which their kernels will be chosen.
import { type DeviceOptions, isGpuName, openDevice } from "../../devices/open.ts";
import { HeddleError } from "../../ir/error.ts";
import { productMs } from "../../run/implement/sparse_forecast.ts";
import { WINOGRAD_SHARE } from "../../run/implement/sparse_windows.ts";
import { learnedRates } from "../../run/sparse_rates.ts";
import type { LayerCost } from "./prune_onnx.ts";

/** Products and convolutions get sparse kernels where these pay; convolutions in groups gain nothing from zeros. Throws HeddleError ("unsupported"). */
export async function predictedCost(options: DeviceOptions): Promise<LayerCost> {
  if (isGpuName(options.device))
    throw new HeddleError("unsupported", `prune: times are predicted for processors only, not for device ${options.device}`);
  const device = await openDevice(options);
  try {
    const machine = { target: device.target, threads: device.threads, rates: await learnedRates(device) };
    return ({ rows, columns, positions, groups, kernel, strides }, density) => {
      const hasWindows = [...kernel, ...strides].some((length) => length !== 1);
      const isWinograd = kernel.length === 2 && kernel.every((length) => length === 3) && strides.every((step) => step === 1);
      const size = { rows, depth: columns, n: positions, hasWindows, denseShare: isWinograd ? WINOGRAD_SHARE : 1 };
      return productMs(size, groups === 1 ? density : 1, machine);
    };
  } finally {
    device.close();
  }
}
