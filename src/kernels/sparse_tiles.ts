// Activations between sparse products: tiles of columns one after another, in each the rows next to each other as a panel has them. What one product gives like this the next one takes as it is.
import { addIndex, clampIndex, mulIndex, unlinearIndex } from "../ir/index_expr.ts";
import { type Int, type KernelBuilder, plus, type SimdTarget, times } from "../ir/kernel.ts";
import { elementCount } from "../ir/tensor.ts";
import type { Epilogue } from "./epilogue.ts";
import { sparseVectors } from "./sparse_columns.ts";
import { NAMED } from "./sparse_groups.ts";
import { panelPitch } from "./sparse_reach.ts";

/** How n columns of some rows lie. */
export interface Tiles {
  readonly count: number;
  /** Columns of a tile, but of the last one, and the vectors that hold them. */
  readonly width: number;
  readonly vectors: number;
  /** Rows of a tile: all that coordinates name. */
  readonly rows: number;
  /** Bytes from one row to the next, as in a panel. */
  readonly rowBytes: number;
}

export function tilesOf(n: number, rows: number, target: SimdTarget): Tiles {
  const vectors = powerOfTwo(sparseVectors(n, target));
  const width = vectors * target.lanes;
  return {
    count: Math.ceil(n / width),
    width,
    vectors,
    rows: rows >= NAMED ? rows : powerOfTwo(rows),
    rowBytes: panelPitch(vectors, target),
  };
}

export const tileBytes = ({ rows, rowBytes }: Tiles): number => rows * rowBytes;
/** Of all tiles. */
export const bytesOfTiles = (tiles: Tiles): number => tiles.count * tileBytes(tiles);

const powerOfTwo = (least: number): number => 2 ** Math.ceil(Math.log2(least));

/** Where a row of the tile that begins at `column` is in all tiles, as an epilogue over them counts. */
export const placeInTiles = (
  b: KernelBuilder,
  { rows, width }: Tiles,
  row: Int,
  column: Int,
): { readonly row: Int; readonly column: Int } => ({
  row: plus(times(b.div(column, width), rows), row),
  column: 0,
});

/** Whether an epilogue over results (n, rows) is one over tiles of them: what it reads is the same for all columns. */
export const fitsTiles = ({ inputs, output }: Epilogue, rows: number): boolean =>
  output.dtype === "f32" &&
  output.shape[output.shape.length - 1] === rows &&
  inputs.every(({ shape }) => elementCount(shape) === 1 || (elementCount(shape) === rows && shape[shape.length - 1] === rows));

/** An epilogue over (n, rows) that fits tiles, over them: (count · tile's rows, a row's columns). */
export function overTiles(epilogue: Epilogue, rows: number, tiles: Tiles): Epilogue {
  const { inputs, output } = epilogue;
  const outer = output.shape.slice(0, -1);
  const type = { dtype: output.dtype, shape: [tiles.count, tiles.rows, tiles.rowBytes / 4] };
  return {
    inputs,
    output: type,
    compose: (leaves) => ({
      type,
      at(index) {
        const [tile, row, column] = index;
        const result = { type: output, at: () => leaves[inputs.length].at(index) };
        const pixel = addIndex(mulIndex(tile, tiles.width), column);
        return epilogue
          .compose([...leaves.slice(0, inputs.length), result])
          .at([...unlinearIndex(pixel, outer), clampIndex(row, 0, rows - 1)]);
      },
    }),
  };
}
