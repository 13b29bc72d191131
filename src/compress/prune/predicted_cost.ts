// What layers of a density will take on this machine: by the same prediction by which their kernels will be chosen.
import { type DeviceOptions, isGpuName, openDevice } from "../../devices/open.ts";
import { HeddleError } from "../../ir/error.ts";
import type { SimdTarget } from "../../ir/simd_target.ts";
import { cachesOf, ratesWhere } from "../../run/implement/sparse_cost.ts";
import { productMs } from "../../run/implement/sparse_forecast.ts";
import { WINOGRAD_SHARE } from "../../run/implement/sparse_windows.ts";
import { learnedRates } from "../../run/sparse_rates.ts";
import type { LayerCost, LayerSize } from "./prune_onnx.ts";

/** Products and convolutions get sparse kernels where these pay; convolutions in groups gain nothing from zeros. Throws HeddleError ("unsupported"). */
export async function predictedCost(options: DeviceOptions): Promise<LayerCost> {
  if (isGpuName(options.device))
    throw new HeddleError("unsupported", `prune: times are predicted for processors only, not for device ${options.device}`);
  const device = await openDevice(options);
  try {
    const { target, threads } = device;
    const rates = await learnedRates(device);
    return ({ rows, columns, positions, groups, kernel, strides }, density, network) => {
      const machine = { target, threads, rates: ratesWhere(cachesFilled(network, target), rates) };
      const hasWindows = [...kernel, ...strides].some((length) => length !== 1);
      const isWinograd = kernel.length === 2 && kernel.every((length) => length === 3) && strides.every((step) => step === 1);
      const size = { rows, depth: columns, n: positions, hasWindows, denseShare: isWinograd ? WINOGRAD_SHARE : 1 };
      return productMs(size, groups === 1 ? density : 1, machine);
    };
  } finally {
    device.close();
  }
}

/** By the weights of the layers, and what they read and write. */
function cachesFilled(network: readonly LayerSize[], target: SimdTarget): number {
  const inputs = ({ columns, groups, kernel }: LayerSize): number => (groups * columns) / kernel.reduce((a, b) => a * b, 1);
  const weights = network.reduce((sum, { rows, columns }) => sum + rows * columns, 0);
  const largest = Math.max(...network.map((layer) => layer.positions * Math.max(layer.rows, inputs(layer))));
  return cachesOf(4 * weights, 4 * largest, target);
}
