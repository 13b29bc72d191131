// Partial sums of gradients of convolution weights: the order in which kernels leave them, and how they are added up into the weights' own.
import { type Int, type Kernel, KernelBuilder, plus, type SimdTarget, times, type Vec } from "../ir/kernel.ts";
import { type Epilogue, EpilogueCode } from "./epilogue.ts";
import type { TileShape } from "./tile.ts";
import type { WindowAxis } from "./window.ts";
import { shareOut } from "./work.ts";

/** Of a convolution from `inputs` to `outputs` of the axes. */
export interface WeightGradientShape {
  readonly batch: number;
  readonly groups: number;
  /** Channels of one group. */
  readonly inChannels: number;
  readonly outChannels: number;
  readonly y: WindowAxis;
  readonly x: WindowAxis;
  /** Elements of the windows whose maxima the gradient is given for, which cover the output once. */
  readonly pool?: readonly [number, number];
}

/** How sums lie: by tiles whose vectors are out channels, once in each slot. */
export interface WeightSums {
  readonly tile: TileShape;
  readonly slots: number;
}

/** Rows of sums: a tap and an in channel each. */
export const rowsOf = ({ y, x, inChannels }: WeightGradientShape): number => y.taps * x.taps * inChannels;
export const paddedOut = ({ outChannels }: WeightGradientShape, { lanes }: SimdTarget): number => Math.ceil(outChannels / lanes) * lanes;
/** Elements of one slot of sums: [group][tile of out channels][tap y][tap x][in channel][out channel of the tile]. */
export const slotElements = (shape: WeightGradientShape, target: SimdTarget): number =>
  shape.groups * rowsOf(shape) * paddedOut(shape, target);

/** Of all slots. */
export const weightSumElements = (shape: WeightGradientShape, { slots }: Pick<WeightSums, "slots">, target: SimdTarget): number =>
  slots * slotElements(shape, target);

/** Adds up the slots and puts the weights in ONNX's order (out, in of the group, tap y, tap x). Buffers: sums, the epilogue's inputs, output. */
export function sumWeightsKernel(
  name: string,
  shape: WeightGradientShape,
  schedule: WeightSums,
  epilogue: Epilogue,
  target: SimdTarget,
  threads: number,
): Kernel {
  const { groups, inChannels, outChannels, y, x } = shape;
  const { lanes } = target;
  const b = new KernelBuilder(name, target, threads);
  const sums = b.buffer("sums", 4 * weightSumElements(shape, schedule, target), "read");
  const taps = y.taps * x.taps;
  const code = new EpilogueCode(b, epilogue, inChannels * taps);
  const rows = rowsOf(shape);
  const tileWidth = schedule.tile.vectors * lanes;
  const padded = paddedOut(shape, target);
  // A row of the output holds the taps of each in channel: vectors run along the taps, or along the channels where there is one tap.
  const [outer, inner] = taps > 1 ? [inChannels, taps] : [1, inChannels];

  const element = (row: Int, at: Int, width: number, outerAt: Int): void => {
    for (let v = 0; v * lanes < inner; v++) {
      const count = Math.min(lanes, inner - v * lanes);
      const step = 4 * width * (taps > 1 ? inChannels : 1);
      const load = (slot: number): Vec => b.strided(sums, plus(at, 4 * slot * slotElements(shape, target) + v * lanes * step), step, count);
      let sum = load(0);
      for (let slot = 1; slot < schedule.slots; slot++) sum = b.op("add", sum, load(slot));
      const column = plus(times(outerAt, inner), v * lanes);
      code.storeTile([[sum]], { row, rowStep: 1, column: () => column, lanesOf: () => count });
    }
  };
  shareOut(b, [groups, outer], ([groupPart, outerPart]) => {
    b.loop(groupPart.from, groupPart.to, 1, (group) => {
      const tile = (first: Int, channels: number, width: number): void =>
        b.loop(outerPart.from, outerPart.to, 1, (c) => {
          b.loop(0, channels, 1, (m) => {
            const at = plus(times(group, 4 * rows * padded), times(first, 4 * rows), times(c, 4 * width), times(m, 4));
            element(plus(times(group, outChannels), first, m), at, width, c);
          });
        });
      const full = Math.floor(outChannels / tileWidth);
      if (full > 0) b.loop(0, full, 1, (t) => tile(times(t, tileWidth), tileWidth, tileWidth));
      if (full * tileWidth < outChannels) tile(full * tileWidth, outChannels - full * tileWidth, padded - full * tileWidth);
    });
  });
  return b.build();
}
