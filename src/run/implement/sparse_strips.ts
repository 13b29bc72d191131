// Layers whose zeros lie in blocks to kernels that multiply whole blocks, where these are predicted to be faster than kernels for single nonzeros.
import type { Value } from "../../ir/graph.ts";
import type { SimdTarget } from "../../ir/kernel.ts";
import type { PixelSource } from "../../kernels/sparse_panel.ts";
import {
  packStrips,
  type SparseStripShape,
  type Strips,
  type StripWeights,
  sparseStripKernel,
  sparseStripShape,
  stripSizes,
  stripsOf,
} from "../../kernels/sparse_strips.ts";
import { splitThreads } from "../../kernels/work.ts";
import { type AnchorTask, constantPlace, type KernelCall, type Place, packedPlace, sharedKernel, tailPlaces, valuePlace } from "../step.ts";
import { machineOf } from "./sparse_choice.ts";
import { readNs } from "./sparse_cost.ts";
import { type Machine, type Size, windowsMs } from "./sparse_forecast.ts";
import { blocksForecast, type VectorForecast } from "./sparse_vector_cost.ts";

/** In what the dense product takes for a weight: for each that is stored, by vectors of a strip, and for each result. */
interface StripCost {
  readonly stored: readonly number[];
  readonly result: number;
}
/** Measured on Zen 5: 64×64 to 512×2048, 50 and 90 % of blocks of 16 zero. */
const COSTS: Readonly<Record<SimdTarget["name"], StripCost>> = {
  avx512: { stored: [1.2, 1.02], result: 7 },
  avx2: { stored: [1.12, 1.02], result: 3 },
  wasm: { stored: [2.2, 1.55], result: 3 },
};

export interface StripChoice {
  readonly strips: Strips;
  readonly shape: SparseStripShape;
  readonly sparseMs: number;
}

/** The blocks in which a layer is predicted to be fastest. */
export function bestStrips(w: StripWeights, size: Size, hasBias: boolean, machine: Machine): StripChoice {
  const { target } = machine;
  const all = stripSizes(target).map((block) => {
    const strips = stripsOf(w, block);
    const shape = sparseStripShape(strips, size.n, hasBias, target);
    return { strips, shape, sparseMs: stripMs(size, shape, machine) };
  });
  return all.reduce((best, one) => (one.sparseMs < best.sparseMs ? one : best));
}

function stripMs(size: Size, { rows, n, height, width, stored, pixels }: SparseStripShape, machine: Machine): number {
  const { target, threads, rates } = machine;
  const cost = COSTS[target.name];
  const [tiles, strips] = [Math.ceil(n / pixels), Math.ceil(rows / height)];
  const [byTiles, byStrips] = splitThreads(threads, [tiles, strips]);
  const [columns, share] = [Math.ceil(tiles / byTiles) * pixels, Math.ceil(strips / byStrips) / strips];
  const product = rates.dense.element * (cost.stored[height / target.lanes - 1] * stored * width * height + cost.result * rows);
  const wait = (rates.dense.wait * readNs(4 * stored * width * height, rates.vector.dense, target)) / threads;
  return (columns * share * product + rates.dense.once + wait) / 1e6 + (size.hasWindows ? windowsMs(size, threads, rates) : 0);
}

/** A single pixel, by the blocks that are fewest bytes; null: this target has no kernel that would not wait for its sums. */
export function rowTimesBlocks(
  task: AnchorTask,
  x: Value,
  w: StripWeights,
): { readonly ms: VectorForecast; readonly format: string; call(threads: number): KernelCall } | null {
  const { rows, depth } = w;
  const all = stripSizes(task.target)
    .filter(({ width }) => width > 1)
    .map((block) => stripsOf(w, block));
  if (all.length === 0) return null;
  const elements = ({ height, width, inputs }: Strips): number => height * width * inputs.length;
  const strips = all.reduce((best, one) => (elements(one) < elements(best) ? one : best));
  return {
    ms: blocksForecast({ rows, depth, n: 1 }, elements(strips), machineOf(task)),
    format: stripFormat(strips),
    call: (threads) =>
      stripCall({ ...task, threads }, w, { strips, shape: sparseStripShape(strips, 1, false, task.target) }, [valuePlace(x)]),
  };
}

/** Places of what is multiplied: the operand, or a source's. */
export function stripCall(
  task: AnchorTask,
  w: StripWeights,
  { strips, shape }: Pick<StripChoice, "strips" | "shape">,
  places: readonly Place[],
  source?: PixelSource,
): KernelCall {
  const key = `sparse strips ${JSON.stringify(shape)} ${source?.key ?? ""} ${task.epilogueKey}`;
  const kernel = sharedKernel(task, key, () => sparseStripKernel(task.name, shape, task.epilogue, task.target, task.threads, source));
  const values = packedPlace((out) => packStrips(w, strips, out));
  return { kernel, places: [values, constantPlace(strips.pointers), constantPlace(strips.inputs), ...places, ...tailPlaces(task)] };
}

/** As tables show it: outputs by inputs of a block. */
export const stripFormat = ({ height, width }: Pick<Strips, "height" | "width">): string => `BSR ${height}x${width}`;
