// Measures register tiles of a matrix product in WebAssembly, one thread, operands in the first-level cache: GFLOP/s for each tile and unrolling. Options: --json, --no-relaxed.
import type { CpuDevice } from "../src/devices/cpu.ts";
import { openWasm } from "../src/devices/wasm/index.ts";
import { type Kernel, KernelBuilder, plus, times, type Vec } from "../src/ir/kernel.ts";

interface Tile {
  readonly rows: number;
  /** Vectors of a row. */
  readonly vectors: number;
  readonly unroll: number;
}
/** packed: A as k × rows, so that one pointer serves; plain: A row by row. */
type Layout = "plain" | "packed";

const DEPTH = 256;
const ROW_BLOCKS = 16;
const COLUMN_BLOCKS = 2;
const REPEAT = 20;

/** c (m,n) = a (m,DEPTH) · b (DEPTH,n), B as panels of one tile's columns. */
function product(device: CpuDevice, { rows, vectors, unroll }: Tile, layout: Layout): Kernel {
  const { target } = device;
  const width = vectors * target.lanes;
  const [m, n] = [rows * ROW_BLOCKS, width * COLUMN_BLOCKS];
  const k = new KernelBuilder(`tile_${rows}x${vectors}`, target);
  const a = k.buffer("a", m * DEPTH * 4, "read");
  const b = k.buffer("b", n * DEPTH * 4, "read");
  const c = k.buffer("c", m * n * 4, "write");
  k.loop(0, REPEAT, 1, () => {
    k.loop(0, COLUMN_BLOCKS, 1, (column) => {
      k.loop(0, ROW_BLOCKS, 1, (row) => {
        const sums: Vec[][] = Array.from({ length: rows }, () => Array.from({ length: vectors }, () => k.f32(0)));
        k.loop(0, DEPTH, unroll, (depth) => {
          for (let u = 0; u < unroll; u++) {
            const from = plus(times(column, DEPTH * width * 4), times(depth, width * 4), u * width * 4);
            const bs = sums[0].map((_, j) => k.load(b, plus(from, j * target.lanes * 4)));
            sums.forEach((line, i) => {
              const at =
                layout === "plain"
                  ? plus(times(row, rows * DEPTH * 4), times(depth, 4), u * 4 + i * DEPTH * 4)
                  : plus(times(row, rows * DEPTH * 4), times(depth, rows * 4), (u * rows + i) * 4);
              const x = k.splat(a, at);
              line.forEach((sum, j) => {
                k.accumulate(sum, x, bs[j]);
              });
            });
          }
        });
        sums.forEach((line, i) => {
          line.forEach((sum, j) => {
            k.store(sum, c, plus(times(row, rows * n * 4), times(column, width * 4), i * n * 4 + j * target.lanes * 4));
          });
        });
      });
    });
  });
  return k.build();
}

const TILES: readonly (readonly [number, number])[] = [
  [2, 2],
  [3, 3],
  [4, 2],
  [4, 3],
  [5, 2],
  [6, 2],
  [3, 4],
  [2, 4],
  [2, 5],
  [8, 1],
  [12, 1],
  [7, 2],
  [4, 4],
  [8, 2],
];

async function measure(device: CpuDevice, tile: Tile, layout: Layout): Promise<number> {
  const kernel = product(device, tile, layout);
  const memories = kernel.params.map((p) => device.alloc(p.bytes));
  for (const memory of memories.slice(0, 2)) {
    const view = memory.view();
    new Float32Array(view.buffer, view.byteOffset, view.byteLength >> 2).fill(0.5);
  }
  const list = await device.load([kernel], [{ kernel: 0, args: memories.map((x) => x.address) }]);
  let best = Number.POSITIVE_INFINITY;
  for (let i = 0; i < 12; i++) {
    const start = performance.now();
    list.run(0, 1);
    best = Math.min(best, performance.now() - start);
  }
  list.free();
  for (const memory of memories) memory.free();
  const flops = 2 * DEPTH * tile.rows * ROW_BLOCKS * tile.vectors * device.target.lanes * COLUMN_BLOCKS * REPEAT;
  return flops / best / 1e6;
}

const { argv } = process;
const device = await openWasm({ threads: 1, relaxed: argv.includes("--no-relaxed") ? false : undefined });
const rows = [];
for (const [height, vectors] of TILES) {
  for (const unroll of [1, 2, 4]) {
    const tile = { rows: height, vectors, unroll };
    const [plain, packed] = [await measure(device, tile, "plain"), await measure(device, tile, "packed")];
    rows.push({ tile: `${height}×${vectors}`, unroll, plain: Number(plain.toFixed(1)), packed: Number(packed.toFixed(1)) });
  }
}
if (argv.includes("--json")) console.log(JSON.stringify(rows));
else console.table(rows);
device.close();
