// Sparse weights on activations with channels last: blocks of pixels are turned around into panels on their way in, and results on their way out.
import { type Int, type KernelBuilder, plus, times, type Vec } from "../ir/kernel.ts";
import type { EpilogueCode } from "./epilogue.ts";
import type { DenseSide, InTiles, Panel, PanelBuffers, PanelTile } from "./sparse_side.ts";
import { bytesOfTiles, placeInTiles, tilesOf } from "./sparse_tiles.ts";
import { transposeTile } from "./transpose_tile.ts";

/** Where channels of pixels come from. */
export interface PixelSource {
  /** Sources with different code have different keys. */
  readonly key: string;
  /** Declares its buffers. */
  declare(b: KernelBuilder, shape: { readonly depth: number; readonly n: number }): LoadChannels;
}

/** An operand (n, depth). */
const rowsOfPixels: PixelSource = {
  key: "",
  declare(b, { depth, n }) {
    const x = b.buffer("x", 4 * depth * n, "read");
    return (pixel, k, count) => b.load(x, plus(times(pixel, depth * 4), times(k, 4)), count);
  },
};

/** Operand by rows of pixels, result (n, rows); a bias (rows) is added where there is one, and is the buffer after the operand's. */
export const channelsLast = (
  hasBias: boolean,
  source = rowsOfPixels,
  { takesTiles, givesTiles }: InTiles = {},
): DenseSide<PanelBuffers> => ({
  columns: ({ rows }) => rows,
  sharesColumns: true,
  rowsAtOnce: ({ lanes }) => (givesTiles ? 1 : lanes),
  takesTiles,
  givesTiles,
  declare(b, shape) {
    const { depth, n } = shape;
    const operand = takesTiles ? b.buffer("x", bytesOfTiles(tilesOf(n, depth, b.target)), "read") : undefined;
    const load = takesTiles ? null : source.declare(b, shape);
    const bias = hasBias ? b.buffer("bias", 4 * shape.rows, "read") : undefined;
    const store = givesTiles ? storeInTiles : storeTurned;
    return {
      operand,
      bias,
      fill: (tile) => load && fillAll(tile, turnInto(tile, load)),
      fillPanel: (tile, panel) => load && fillPanel(tile, panel, turnInto(tile, load)),
      store: (tile, blockRow, epilogue) => store(tile, blockRow, epilogue, bias),
    };
  },
});

/** `count` channels of a pixel from channel k on. */
export type LoadChannels = (pixel: Int, k: Int, count: number) => Vec;

/** Runs `part` for each vector of the tile's columns: its number, and how many lanes it has. */
function overVectors({ b, target, width }: PanelTile, part: (v: Int, count: number) => void): void {
  const whole = Math.floor(width / target.lanes);
  if (whole > 0) b.loop(0, whole, 1, (v) => part(v, target.lanes));
  if (whole * target.lanes < width) part(whole, width - whole * target.lanes);
}

/** As many rows of the panel as a vector has lanes, or the last ones: channel k, panel row, channels. */
type Turn = (k: Int, panelRow: Int, channels: number) => void;

const turnInto =
  (tile: PanelTile, load: LoadChannels): Turn =>
  (k, panelRow, channels) => {
    const { b, target, scratch, rowBytes, column } = tile;
    const { lanes } = target;
    overVectors(tile, (v, pixels) => {
      const first = plus(column, times(v, lanes));
      const zero = pixels < lanes ? b.f32(0) : null;
      const rows = Array.from({ length: lanes }, (_, i) => (zero && i >= pixels ? zero : load(plus(first, i), k, channels)));
      const to = plus(times(panelRow, rowBytes), times(v, lanes * 4));
      for (const [i, row] of transposeTile(b, rows).slice(0, channels).entries()) b.store(row, scratch, plus(to, i * rowBytes));
    });
  };

function fillPanel({ b, target, shape }: PanelTile, { base, from, to, end, isLast }: Panel, turn: Turn): void {
  const { lanes } = target;
  const { depth } = shape;
  b.loop(from, plus(to, 1 - lanes), lanes, (k) => turn(plus(base, k), k, lanes));
  const rest = depth % lanes;
  if (rest > 0) isLast(() => turn(depth - rest, end - rest, rest));
}

/** Rows [0, depth), a row left out after each block. */
function fillAll({ b, target, shape, blockColumns }: PanelTile, turn: Turn): void {
  const { lanes } = target;
  const { block, depth } = shape;
  const whole = Math.floor(depth / lanes);
  if (whole > 0)
    b.loop(0, blockColumns, 1, (c) => {
      const first = times(c, block / lanes);
      b.loop(first, b.min(plus(first, block / lanes), whole), 1, (part) => {
        turn(times(part, lanes), plus(times(c, block + 1), times(b.mod(part, block / lanes), lanes)), lanes);
      });
    });
  const rest = whole * lanes;
  if (rest < depth) turn(rest, Math.floor(rest / block) * (block + 1) + (rest % block), depth - rest);
}

/** The sums of a block row as rows of pixels, with bias and epilogue. */
function storeTurned(tile: PanelTile, blockRow: Int, epilogue: EpilogueCode, bias: number | undefined): void {
  const { b, target, shape, scratch, rowBytes, column, sums } = tile;
  const { lanes } = target;
  const { block, rows } = shape;
  const turn = (channel: Int, inBlock: Int, channels: number): void => {
    const added = bias !== undefined ? b.load(bias, times(channel, 4), channels) : null;
    overVectors(tile, (v, pixels) => {
      const from = plus(sums, times(inBlock, rowBytes), times(v, lanes * 4));
      const turned = transposeTile(
        b,
        Array.from({ length: lanes }, (_, i) => b.load(scratch, plus(from, i * rowBytes))),
      );
      const results = turned.slice(0, pixels).map((x) => [added ? b.op("add", x, added) : x]);
      epilogue.storeTile(results, { row: plus(column, times(v, lanes)), rowStep: 1, column: () => channel, lanesOf: () => channels });
    });
  };
  const whole = Math.floor(rows / lanes);
  const first = times(blockRow, block / lanes);
  if (whole > 0)
    b.loop(first, b.min(plus(first, block / lanes), whole), 1, (part) =>
      turn(times(part, lanes), times(b.mod(part, block / lanes), lanes), lanes),
    );
  const rest = whole * lanes;
  const last = Math.ceil(rows / block) - 1;
  if (rest < rows) b.when(last - 1, blockRow, () => turn(rest, rest % block, rows - rest));
}

/** The sums of a block row as rows of the tile, with bias and epilogue. */
function storeInTiles(tile: PanelTile, blockRow: Int, epilogue: EpilogueCode, bias: number | undefined): void {
  const { b, target, shape, scratch, rowBytes, column, sums } = tile;
  const { block, rows, n } = shape;
  const tiles = tilesOf(n, rows, target);
  const first = times(blockRow, block);
  b.loop(first, b.min(plus(first, block), rows), 1, (row) => {
    const added = bias !== undefined ? b.splat(bias, times(row, 4)) : null;
    const place = placeInTiles(b, tiles, row, column);
    overVectors(tile, (v, count) => {
      const x = b.load(scratch, plus(sums, times(plus(row, times(first, -1)), rowBytes), times(v, target.lanes * 4)));
      const result = added ? b.op("add", x, added) : x;
      epilogue.storeTile([[result]], { row: place.row, rowStep: 1, column: () => times(v, target.lanes), lanesOf: () => count });
    });
  });
}
