// Grains: which weights of a layer stay or go together.
import { HeddleError } from "../../ir/error.ts";
import type { Layer } from "./layer.ts";

/** Single weights, N of M neighbours in a row, kernels of a convolution, whole rows, whole layers, blocks of outputs and inputs. */
export type Grain = "element" | "kernel" | "filter" | "layer" | NOfM | Block;
/** So many of so many stay. */
export interface NOfM {
  readonly n: number;
  readonly m: number;
}
/** Of a convolution at one element of its kernels: what sparse kernels multiply as one small dense matrix. */
export interface Block {
  readonly outputs: number;
  readonly inputs: number;
}

/** "element", "filter", "2:4" or "16x16". Throws HeddleError ("bad-argument"). */
export function parseGrain(text: string): Grain {
  if (text === "element" || text === "kernel" || text === "filter" || text === "layer") return text;
  const [outputs, inputs] = (/^(\d+)x(\d+)$/.exec(text) ?? []).slice(1).map(Number);
  if (outputs * inputs > 1) return { outputs, inputs };
  const [n, m] = (/^(\d+):(\d+)$/.exec(text) ?? []).slice(1).map(Number);
  if (n >= 0 && n < m) return { n, m };
  throw new HeddleError(
    "bad-argument",
    `grain ${text}: wanted element, kernel, filter, layer, outputs by inputs as in 16x4, or N:M with N below M as in 2:4`,
  );
}

/** Whether the grain itself says how many weights go. */
export const isPattern = (grain: Grain): grain is NOfM => typeof grain === "object" && "n" in grain;

/** Weights in groups that are numbered row by row. */
export interface Groups {
  /** The group of each weight, in the order of the layer's matrix. */
  readonly of: Int32Array;
  readonly sizes: Int32Array;
  /** Groups in a row of the matrix, or in a row of blocks; 1 where a group is that much. */
  readonly perRow: number;
}

type Sizes = Pick<Layer, "rows" | "columns" | "taps">;

export function groupsOf({ rows, columns, taps }: Sizes, grain: Exclude<Grain, "element" | NOfM>): Groups {
  switch (grain) {
    case "kernel":
      return numbered(rows, columns, columns / taps, (row, column) => row * (columns / taps) + Math.floor(column / taps));
    case "filter":
      return numbered(rows, columns, 1, (row) => row);
    case "layer":
      return numbered(rows, columns, 1, () => 0);
    default: {
      const { outputs, inputs } = grain;
      const perRow = Math.ceil(columns / taps / inputs) * taps;
      return numbered(rows, columns, perRow, (row, column) => {
        const [channel, tap] = [Math.floor(column / taps), column % taps];
        return Math.floor(row / outputs) * perRow + Math.floor(channel / inputs) * taps + tap;
      });
    }
  }
}

function numbered(rows: number, columns: number, perRow: number, groupAt: (row: number, column: number) => number): Groups {
  const of = Int32Array.from({ length: rows * columns }, (_, i) => groupAt(Math.floor(i / columns), i % columns));
  const sizes = new Int32Array(of.length > 0 ? of[of.length - 1] + 1 : 0); // the last weight is in the last group
  for (const group of of) sizes[group]++;
  return { of, sizes, perRow };
}
