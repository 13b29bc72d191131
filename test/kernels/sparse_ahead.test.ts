// What sparse products ask for ahead is what is needed next, each line once, and only where it pays.
import { expect, test } from "vitest";
import { KernelBuilder, rangeOf, type SimdTarget } from "../../src/ir/kernel.ts";
import { EpilogueCode, noEpilogue } from "../../src/kernels/epilogue.ts";
import { Ahead, asksForResults, operandAhead, type Walked } from "../../src/kernels/sparse_ahead.ts";
import { groupsOf } from "../../src/kernels/sparse_groups.ts";
import { sparseProductKernel } from "../../src/kernels/sparse_product.ts";
import { sparseProductShape } from "../../src/kernels/sparse_product_shape.ts";
import { cooFromDense } from "../../src/sparse/coo.ts";
import { csbFromCoo } from "../../src/sparse/csb.ts";
import { TARGETS } from "../codegen/simd_run.ts";
import { randomMatrix } from "../sparse/matrices.ts";

const WALK: Walked = { rows: 512, depth: 2048, n: 256, block: 128, strip: 4, panel: 256, panels: 8, abreast: 4, broad: false };
const [x86] = TARGETS;

/** Bytes from a row to the next, and from a tile of columns to the next for each column: of an operand by rows, and of one in tiles. */
const LYING = { rows: { row: 4 * WALK.n, column: 4 }, tiles: { row: 256, column: (256 * WALK.depth) / 64 } };

test.each([
  { number: 3, row: 4 * 256, column: 64, lies: "rows" },
  { number: 7, row: 0, column: 128, lies: "rows" },
  { number: 3, row: 4 * 256, column: 64, lies: "tiles" },
  { number: 7, row: 0, column: 128, lies: "tiles" },
] as const)("bundles of panel $number ask for each line of the next one once, in $lies", ({ number, row, column, lies }) => {
  const b = new KernelBuilder("ahead", x86);
  const x = b.buffer("x", 4 * WALK.depth * WALK.n, "read");
  const tile = { column: 64, width: 64 } as Parameters<Ahead["ofOperand"]>[3]; // no more of it is read
  const first = 1000;
  const ask = new Ahead(b, WALK, x86).ofOperand(x, LYING[lies], number, tile, first);
  for (let i = 0; i < WALK.rows / WALK.abreast; i++) ask(first + i);
  const asked = b.build().body.flatMap((s) => (s.k === "prefetch" ? [rangeOf(s.at.at)] : []));
  const lying = LYING[lies];
  const lines = Array.from({ length: WALK.panel * 4 }, (_, i) => (row + (i >> 2)) * lying.row + column * lying.column + 64 * (i & 3));
  expect(asked).toEqual(lines.map((at) => [at, at]));
});

test("bundles of a strip's last panel ask for each line of its results by rows of pixels once", () => {
  const walk = { ...WALK, panels: 1, rows: 500, strip: 2 };
  const asked = (target: SimdTarget): (readonly number[])[] => {
    const b = new KernelBuilder("ahead", target);
    const epilogue = new EpilogueCode(b, noEpilogue({ dtype: "f32", shape: [walk.n, walk.rows] }), walk.rows);
    const tile = { column: 64, width: 64 } as Parameters<Ahead["ofTurned"]>[3]; // no more of it is read
    const first = 1000;
    const ask = new Ahead(b, walk, target).ofTurned(epilogue, 1, 0, tile, first);
    for (let i = 0; i < (walk.rows - 256) / walk.abreast; i++) ask(first + i);
    return b.build().body.flatMap((s) => (s.k === "prefetch" ? [rangeOf(s.at.at)] : []));
  };
  const at = (pixel: number, channel: number): number => 4 * (pixel * walk.rows + channel);
  const lines = Array.from({ length: 64 * 15 }, (_, i) => at(64 + (i % 64), 256 + 16 * Math.floor(i / 64)));
  const rest = Array.from({ length: 16 }, (_, i) => at(64 + i, 496)); // of the last four rows, which are a bundle
  expect(asked(x86)).toEqual([...lines, ...rest].map((byte) => [byte, byte]));
  expect(asked({ ...x86, l2: 16 * 4 * 64 * 256 - 64 })).toEqual([]);
  expect(asked({ ...x86, loadsFirst: true })).toEqual([]);
});

test("few rows, one panel of one tile of columns, the whole operand at once, and machines without prefetches ask for nothing", () => {
  const wasm = TARGETS.find(({ loadsFirst }) => loadsFirst)!; // one of them
  expect(operandAhead(WALK, x86)).toBe(2);
  expect(operandAhead({ ...WALK, rows: 64 }, x86)).toBe(0);
  expect(operandAhead({ ...WALK, panels: 1 }, x86)).toBe(2); // of the columns that follow
  expect(operandAhead({ ...WALK, panels: 1, n: 4 * x86.lanes }, x86)).toBe(0);
  expect(operandAhead({ ...WALK, n: x86.l2 / 32 / WALK.depth }, x86)).toBe(0);
  expect(operandAhead({ ...WALK, broad: true }, x86)).toBe(0);
  expect(operandAhead(WALK, wasm)).toBe(0);
  const ofCache = (bytes: number): SimdTarget => ({ ...x86, l2: bytes });
  const results = 4 * WALK.rows * WALK.n;
  expect(asksForResults({ ...WALK, rows: 128 }, ofCache(results - 64))).toBe(true);
  expect(asksForResults({ ...WALK, rows: 128 }, ofCache(results))).toBe(false);
  expect(asksForResults({ ...WALK, rows: 256 }, ofCache(16 * results))).toBe(false);
  expect(asksForResults({ ...WALK, rows: 257 }, ofCache(16 * results))).toBe(true);
  expect(asksForResults({ ...WALK, broad: true }, ofCache(64))).toBe(false);
  expect(asksForResults(WALK, { ...wasm, l2: 64 })).toBe(false);
});

test.each(TARGETS)("kernels of many rows ask for their operand, and for results that no cache holds, $name", (target) => {
  const [rows, depth, n] = [1024, 700, 64];
  const w = csbFromCoo(cooFromDense(randomMatrix(rows, depth, 0.05)), { block: 128 });
  const asked = (l2: number): string[] => {
    const machine = { ...target, l2 };
    const groups = groupsOf(w, "forward", machine, 1, n);
    const kernel = sparseProductKernel("ahead", sparseProductShape(groups, n), noEpilogue({ dtype: "f32", shape: [rows, n] }), machine, 1);
    const found = JSON.stringify(kernel.body).matchAll(/"k":"prefetch","at":\{"buffer":(\d+)/g);
    return [...new Set(Array.from(found, ([, buffer]) => kernel.params[Number(buffer)].name))].sort();
  };
  const matrix = ["coordinates", "values", "visits"];
  const isX86 = !target.loadsFirst;
  expect(asked(2 ** 20)).toEqual(isX86 ? [...matrix, "x"] : []);
  expect(asked(2 ** 18)).toEqual(isX86 ? ["coordinates", "output", "values", "visits", "x"] : []);
});
