// Where a sparse product finds rows of the dense operand, in a panel that they are copied into or where they lie, and how coordinates name them.
import { HeddleError } from "../ir/error.ts";
import { type Int, type IntVar, type KernelBuilder, plus, type SimdTarget, times, type Vec } from "../ir/kernel.ts";
import { INT_RANGE } from "../ir/kernel_ops.ts";
import { broadVectors } from "./sparse_broad.ts";
import { sparseVectors, VECTORS } from "./sparse_columns.ts";
import { NAMED, ROW_UNIT } from "./sparse_groups.ts";
import type { DenseShape, DenseSide, Panel, PanelTile } from "./sparse_side.ts";
import type { Tiles } from "./sparse_tiles.ts";

/** Bytes from one row of a panel to the next: a power of two, which coordinates are shifted by; short where there are few columns, so that panels spread over all sets of the cache. */
export const panelPitch = (vectors: number, { lanes }: SimdTarget): number =>
  Math.max(ROW_UNIT, 2 ** Math.ceil(Math.log2(vectors)) * lanes * 4);

/** Whether rows of an operand lie as those of a panel would: next to each other, at powers of two that coordinates are shifted by, and as many as these can name. */
function isPanel({ n, depth }: DenseShape, { lanes }: SimdTarget, vectors: number): boolean {
  const isNamed = depth >= NAMED || Number.isInteger(Math.log2(depth));
  return n === vectors * lanes && vectors !== 3 && 4 * n >= ROW_UNIT && isNamed;
}

/** Some columns of a panel. */
export interface PanelColumns {
  readonly panel: Panel;
  readonly tile: PanelTile;
}

export class Reach {
  /** Columns worked off together, in vectors. */
  readonly vectors: number;
  /** Whether rows are copied into panels. */
  readonly isCopied: boolean;
  /** Bytes from one row to the next: of what is met, and of sums. */
  readonly pitch: number;
  /** Of an operand that lies as panels do: bytes from one row to the next, and from one tile of columns to the next for each column. */
  readonly lying: { readonly row: number; readonly column: number };
  /** The last row that coordinates name. */
  private readonly most: number;
  /** Bytes of a coordinate. */
  private readonly size: 1 | 2;

  constructor(
    private readonly b: KernelBuilder,
    private readonly shape: DenseShape & { readonly broad: boolean },
    private readonly target: SimdTarget,
    side: DenseSide | null,
    /** Of the operand, where that or the result lies in tiles: both are as wide. */
    tiles: Tiles | null,
  ) {
    const { n, depth, broad } = shape;
    if (side && broad) throw new HeddleError("unsupported", "sparse product: activations that are turned around come in panels");
    this.vectors = tiles?.vectors ?? sparseVectors(n, target, broad ? broadVectors(target) : VECTORS);
    const lies = side ? side.takesTiles === true : isPanel(shape, target, this.vectors);
    this.isCopied = !broad && !lies;
    const pitch = panelPitch(this.vectors, target);
    this.pitch = broad || (lies && !side) ? 4 * n : pitch;
    this.lying = tiles ? { row: pitch, column: (tiles.rows * pitch) / tiles.width } : { row: 4 * n, column: 4 };
    this.size = broad ? 2 : 1;
    this.most = broad ? 2 ** Math.ceil(Math.log2(depth)) - 1 : (lies ? Math.min(NAMED, tiles?.rows ?? depth) : NAMED) - 1;
  }

  /** Bytes of so many coordinates. */
  bytes(entries: Int): Int {
    return times(entries, this.size);
  }

  /** Coordinates of entries one after another, into a word that held others where there is one. */
  word(coordinates: number, entry: Int, into?: IntVar): IntVar {
    const type = this.shape.broad ? "i64" : "i32";
    return this.b.loadInt(coordinates, this.bytes(entry), type, ...INT_RANGE[type], 0, into);
  }
  /** Where the row of the k-th coordinate of a word begins. */
  row(word: IntVar, k: number): Int {
    const { b, pitch, most, shape } = this;
    if (!shape.broad) return byteTimes(b, word, k, pitch, most);
    const row = b.bits(word, 16 * k, most);
    return times(most < shape.depth ? row : b.min(row, shape.depth - 1), pitch);
  }
  /** That of a single coordinate of a byte. */
  rowOf(coordinates: number, entry: Int): Int {
    const { b, pitch, most } = this;
    const byte = b.loadInt(coordinates, entry, "u8", ...INT_RANGE.u8);
    return times(most < NAMED - 1 ? b.bits(byte, 0, most) : byte, pitch);
  }

  /** A vector of the row that begins at byte `row`. */
  part(operand: number, row: Int, v: number, { panel, tile }: PanelColumns): Vec {
    const { b, isCopied, pitch, lying, target } = this;
    const { lanes } = target;
    const at = plus(row, v * lanes * 4);
    if (isCopied) return b.load(tile.scratch, at);
    return b.load(operand, plus(times(panel.base, pitch), times(tile.column, lying.column), at), Math.min(lanes, tile.width - v * lanes));
  }
}

/** Byte k of a word, `most` (bits that are all set) at most, times a power of two: shifted to where it is that multiple. */
export function byteTimes(b: KernelBuilder, word: IntVar, k: number, factor: number, most = NAMED - 1): IntVar {
  const shift = 8 * k - Math.log2(factor);
  return b.bits(shift < 0 ? times(word, 2 ** -shift) : word, Math.max(0, shift), most * factor);
}
