// Convolutions with windows and sparse weights to sparse products over windows, which are read where they lie in an image with room around it.
import {
  isPadded,
  paddedElements,
  padImageKernel,
  type SparseConvShape,
  windowPlaces,
  windowSource,
  windowWeights,
} from "../../kernels/sparse_conv.ts";
import { constantPlace, type KernelCall, type Place, sharedKernel } from "../step.ts";
import { type ConvTask, windowAxis } from "./conv_task.ts";
import { rowsTimesSparse } from "./sparse.ts";
import { LEAST_TABLED } from "./sparse_forecast.ts";

/** What Winograd's kernel takes, in parts of a product with as many multiplications as windows have elements. */
export const WINOGRAD_SHARE = 0.4;
/** Temporary of a step. */
const IMAGE = 0;

/** Null: the dense kernel is predicted to be faster, or the weights are computed. */
export function sparseWindows(c: ConvTask, isWinograd: boolean): readonly KernelCall[] | null {
  const { task, geometry, constants, places, y, x } = c;
  const { inChannels, outChannels: rows } = geometry;
  const { target, sparse } = task;
  if (!constants || sparse?.mode === "never" || geometry.group !== 1 || isDense(constants, sparse?.mode === "always")) return null;
  const shape: SparseConvShape = { batch: geometry.batch, channels: inChannels, y: windowAxis(y), x: windowAxis(x) };
  const weights = windowWeights(constants, rows, shape, target);
  const { starts, parts } = windowPlaces(shape, target);
  const elements = constants.length / weights.length; // without the channels that fill up vectors
  const denseShare = elements * (isWinograd ? WINOGRAD_SHARE : 1);
  const size = { rows, depth: weights.length / rows, n: starts.length, denseShare, hasWindows: true };
  const before: KernelCall[] = [];
  const image = isPadded(shape, target) ? places.input : padded(c, shape, before);
  const input = { places: [image, constantPlace(starts), constantPlace(parts)], source: windowSource(shape, target) };
  const calls = rowsTimesSparse(task, input, { weights, isTransposed: true, bias: places.bias }, size);
  return calls && [...before, ...calls];
}

/** Whether there is nothing to gain, before anything is converted. */
function isDense(weights: Float32Array, isForced: boolean): boolean {
  const most = isForced ? weights.length : LEAST_TABLED * weights.length;
  let nonzeros = 0;
  for (let i = 0; i < weights.length && nonzeros <= most; i++) if (weights[i] !== 0) nonzeros++;
  return nonzeros > most;
}

function padded({ task, places }: ConvTask, shape: SparseConvShape, calls: KernelCall[]): Place {
  const { target, threads } = task;
  const place: Place = { k: "temporary", id: IMAGE, bytes: 4 * paddedElements(shape, target) };
  const kernel = sharedKernel(task, `pad image ${JSON.stringify(shape)}`, () => padImageKernel(`${task.name}_pad`, shape, target, threads));
  calls.push({ kernel, places: [places.input, place] });
  return place;
}
