// Kernels over sparse matrices against float64 sums: error bound, adjoint, any number of threads, empty rows, full blocks, ragged edges.
import { describe, expect, test } from "vitest";
import { lowerAddresses } from "../../src/codegen/addresses.ts";
import type { Kernel, SimdTarget } from "../../src/ir/kernel.ts";
import { fromNumbers, type TensorData, zeros } from "../../src/ir/tensor.ts";
import { noEpilogue } from "../../src/kernels/epilogue.ts";
import {
  COUNT_SHIFT,
  type Direction,
  GROUPS,
  type Groups,
  groupsOf,
  NAMED,
  PADDING,
  panelBase,
  ROW_UNIT,
  STEP,
  shareBlockRows,
  sharesOf,
} from "../../src/kernels/sparse_groups.ts";
import { sparseOrderKernel } from "../../src/kernels/sparse_order.ts";
import { sparseProductKernel } from "../../src/kernels/sparse_product.ts";
import { sparseProductShape, spreadProductShape } from "../../src/kernels/sparse_product_shape.ts";
import { sampledIndexOf, sparseSampledKernel } from "../../src/kernels/sparse_sampled.ts";
import { spreadGroups, spreadIndexOf } from "../../src/kernels/sparse_spread.ts";
import { cooFromDense } from "../../src/sparse/coo.ts";
import { type Csb, csbFromCoo, visitCsb } from "../../src/sparse/csb.ts";
import { runLowered, TARGETS } from "../codegen/simd_run.ts";
import { random } from "../lower/run_group.ts";
import { randomMatrix, unevenMatrix } from "../sparse/matrices.ts";
import { expectSameArray } from "./same_array.ts";

interface Matrix {
  readonly rows: number;
  readonly columns: number;
  readonly data: Float32Array;
}

const sparseMatrix = (rows: number, columns: number, density: number): Matrix => ({
  rows,
  columns,
  data: unevenMatrix(rows, columns, density).data as Float32Array, // made of it
});

/** Rows of about as many nonzeros: as many go side by side as there are registers for. */
const evenMatrix = (rows: number, columns: number, density: number): Matrix => ({
  rows,
  columns,
  data: randomMatrix(rows, columns, density).data as Float32Array, // made of it
});
const WIDEST = { avx512: 4, avx2: 2, wasm: 1 };

function denseMatrix(rows: number, columns: number, seed: number): Matrix {
  const next = random(seed);
  return { rows, columns, data: Float32Array.from({ length: rows * columns }, () => next() * 2 - 1) };
}

const tensor = (dtype: "f32" | "i32" | "u8" | "u16", array: ArrayLike<number>): TensorData => fromNumbers(dtype, [array.length], array);
const csbOf = ({ rows, columns, data }: Matrix, block: number): Csb =>
  csbFromCoo(cooFromDense(fromNumbers("f32", [rows, columns], data)), { block });

/** Scratch is shared: threads run one after another. */
function run(kernel: Kernel, target: SimdTarget, inputs: readonly TensorData[], out: TensorData): TensorData {
  const scratch = kernel.params.filter((p) => p.access === "scratch").map((p) => new Uint8Array(p.bytes).fill(0xa7));
  const views = [...inputs, out].map(({ data }) => new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  runLowered(target, lowerAddresses(kernel), [...views, ...scratch], kernel.threads);
  return out;
}

/** Values in a kernel's order, by the kernel that puts them there. */
function ordered(w: Csb, place: Int32Array, target: SimdTarget, threads: number): TensorData {
  const shape = { nonzeros: w.values.length, length: place.length };
  const inputs = [tensor("f32", w.values), tensor("i32", place)];
  return run(sparseOrderKernel("order", shape, target, threads), target, inputs, zeros("f32", [place.length]));
}

function product(w: Csb, direction: Direction, x: Matrix, target: SimdTarget, threads: number): Float32Array {
  const groups = groupsOf(w, direction, target, threads, x.columns);
  const type = { dtype: "f32" as const, shape: [groups.rows, x.columns] };
  const kernel = sparseProductKernel("product", sparseProductShape(groups, x.columns), noEpilogue(type), target, threads);
  const shares = sharesOf(groups, x.columns, target, threads).map((data) => tensor("i32", data));
  const inputs = [
    ordered(w, groups.place, target, threads),
    tensor(groups.broad ? "u16" : "u8", groups.coordinate),
    tensor("i32", groups.visits),
    tensor("i32", groups.starts),
    ...shares,
    tensor("f32", x.data),
  ];
  const result = run(kernel, target, inputs, zeros("f32", type.shape)).data as Float32Array;
  // The same bits from values as they lie.
  const spread = spreadGroups(groups);
  if (!spread) expect.fail("windows are too large");
  const shape = spreadProductShape(spread, x.columns);
  expect(shape.spread).toMatchObject({ nonzeros: w.values.length, windows: (groups.starts.length - 1) / GROUPS });
  const index = spreadIndexOf(spread).map((data) =>
    tensor(data instanceof Int32Array ? "i32" : data instanceof Uint16Array ? "u16" : "u8", data),
  );
  const both = [tensor("i32", shareBlockRows(groups, threads)), tensor("f32", x.data)];
  const brought = sparseProductKernel("product", shape, noEpilogue(type), target, threads);
  const same = run(brought, target, [tensor("f32", w.values), ...index, ...both], zeros("f32", type.shape)).data as Float32Array;
  expectSameArray(same, result, "from values as they lie");
  return result;
}

function sampled(w: Csb, g: Matrix, x: Matrix, target: SimdTarget, threads: number): Float32Array {
  const { shape, arrays } = sampledIndexOf(w, g.columns, target, threads);
  expect(shape.visits > 0).toBe(g.columns > target.lanes && !target.loadsFirst); // rows in registers where they have several vectors
  const kernel = sparseSampledKernel("sampled", shape, target, threads);
  expect(JSON.stringify(kernel.body).includes('"lookup"')).toBe(
    g.columns === 1 && target.name === "avx512" && w.values.length >= target.lanes,
  ); // an outer product in registers
  const inputs = [
    ...arrays.map((data) => tensor(data instanceof Uint8Array ? "u8" : "i32", data)),
    tensor("f32", g.data),
    tensor("f32", x.data),
  ];
  return run(kernel, target, inputs, zeros("f32", [w.values.length])).data as Float32Array;
}

/** Numbers of an array, one each `step` from the first. */
interface Line {
  readonly data: ArrayLike<number>;
  readonly first: number;
  readonly step: number;
}

/** Σ a[i]·b[i] of `length` over float64, within 4·√count·2⁻²⁴·Σ|a||b| of `got`, and its last place. */
function expectSum(got: number, length: number, left: Line, right: Line, label: () => string): void {
  let sum = 0;
  let size = 0;
  let count = 0;
  for (let i = 0; i < length; i++) {
    const a = left.data[left.first + i * left.step];
    const b = right.data[right.first + i * right.step];
    sum += a * b;
    size += Math.abs(a * b);
    if (a !== 0) count++;
  }
  const bound = 2 ** -24 * Math.abs(sum) + 4 * Math.sqrt(count) * 2 ** -24 * size;
  if (!(Math.abs(got - sum) <= bound)) expect.fail(`${label()}: ${got}, wanted ${sum} ± ${bound}`);
}

function expectProduct(y: Float32Array, w: Matrix, isTransposed: boolean, x: Matrix): void {
  const [rows, depth] = isTransposed ? [w.columns, w.rows] : [w.rows, w.columns];
  expect(y.length).toBe(rows * x.columns);
  for (let r = 0; r < rows; r++)
    for (let n = 0; n < x.columns; n++) {
      const row = isTransposed ? { data: w.data, first: r, step: w.columns } : { data: w.data, first: r * w.columns, step: 1 };
      expectSum(y[r * x.columns + n], depth, row, { data: x.data, first: n, step: x.columns }, () => `(${r}, ${n})`);
    }
}

const dot = (a: ArrayLike<number>, b: ArrayLike<number>): number => Array.from(a).reduce((sum, v, i) => sum + v * b[i], 0);

const cases = [
  // rows, columns, n, density, block
  [1, 1, 1, 1, 64],
  [70, 90, 64, 0.5, 64],
  [33, 130, 80, 0.1, 64],
  [129, 65, 17, 0.05, 128],
  [150, 40, 8, 0.2, 128],
  [64, 64, 131, 1, 64],
  [20, 300, 3, 0.02, 32],
  [300, 40, 8, 0.1, 32],
  [40, 290, 64, 0.05, 64],
  [40, 310, 32, 0.2, 32],
  [70, 260, 16, 0.4, 128],
  [70, 64, 32, 0.2, 64],
  [70, 128, 64, 0.1, 128],
  [150, 290, 1, 0.3, 64],
  [300, 130, 1, 0.1, 128],
  [40, 90, 1, 0.5, 32],
  // Threads share columns.
  [60, 290, 100, 0.1, 64],
  [33, 300, 128, 0.3, 32],
] as const;

describe.each(TARGETS)("$name", (target) => {
  test.each(cases)("(%i, %i), n %i, density %f, blocks of %i", (rows, columns, n, density, block) => {
    const matrix = sparseMatrix(rows, columns, density);
    const w = csbOf(matrix, block);
    const x = denseMatrix(columns, n, 5);
    const g = denseMatrix(rows, n, 6);
    const y = product(w, "forward", x, target, 1);
    expectProduct(y, matrix, false, x);
    const dx = product(w, "transposed", g, target, 1);
    expectProduct(dx, matrix, true, g);
    const dw = sampled(w, g, x, target, 1);
    let i = 0;
    for (let b = 0; b < w.blockRows * w.blockColumns; b++)
      for (; i < w.pointers[b + 1]; i++) {
        const r = Math.floor(b / w.blockColumns) * block + w.row[i];
        const c = (b % w.blockColumns) * block + w.column[i];
        const [ofG, ofX] = [{ data: g.data, first: r * n, step: 1 }, { data: x.data, first: c * n, step: 1 }]; // biome-ignore format: short
        expectSum(dw[i], n, ofG, ofX, () => `nonzero ${i}`);
      }
    // ⟨W·X, G⟩ = ⟨X, Wᵀ·G⟩ = ⟨W, dW⟩
    const scale = Math.sqrt(dot(y, y) * dot(g.data, g.data)) + 1e-30;
    expect(Math.abs(dot(y, g.data) - dot(x.data, dx)) / scale).toBeLessThan(1e-5);
    expect(Math.abs(dot(y, g.data) - dot(w.values, dw)) / scale).toBeLessThan(1e-5);
    for (const threads of [2, 3]) {
      expectSameArray(product(w, "forward", x, target, threads), y, `${threads} threads`);
      expectSameArray(product(w, "transposed", g, target, threads), dx, `${threads} threads, transposed`);
      expectSameArray(sampled(w, g, x, target, threads), dw, `${threads} threads, sampled`);
    }
  });

  test.each([
    [200, 90, 64, 0.1],
    [300, 290, 64, 0.05],
    [170, 130, 30, 0.4],
    [260, 64, 7, 0.5],
  ])("rows of about as many nonzeros, (%i, %i), n %i, density %f", (rows, columns, n, density) => {
    const matrix = evenMatrix(rows, columns, density);
    const w = csbOf(matrix, 128);
    const x = denseMatrix(columns, n, 5);
    expect(groupsOf(w, "forward", target).abreast).toBe(WIDEST[target.name]);
    const y = product(w, "forward", x, target, 1);
    expectProduct(y, matrix, false, x);
    for (const threads of [2, 3]) expectSameArray(product(w, "forward", x, target, threads), y, `${threads} threads`);
    // Results that no cache holds are asked for (sparse_ahead.test.ts).
    expectSameArray(product(w, "forward", x, { ...target, l2: 4096 }, 2), y, "asked for");
  });

  test("a row that has all columns of the largest panel", () => {
    const matrix = evenMatrix(120, 512, 0.03);
    matrix.data.fill(0.5, 7 * 512, 8 * 512);
    const w = csbOf(matrix, 128);
    expect(groupsOf(w, "forward", target).panel).toBe(NAMED);
    const x = denseMatrix(512, 20, 5);
    expectProduct(product(w, "forward", x, target, 1), matrix, false, x);
  });

  test.each([0.02, 0.3])("each of two threads has rows, or columns, of few rows by many columns, density %f", (density) => {
    const [rows, depth, n] = [60, 600, 256];
    const w = csbOf(evenMatrix(rows, depth, density), 32);
    const groups = groupsOf(w, "forward", target, 2, n);
    const [shares] = sharesOf(groups, n, target, 2);
    // One row at a time meets the whole operand, which threads do not copy: they share rows.
    expect(shares === undefined).toBe(!groups.broad);
    if (shares) expect([...shares]).toEqual([0, 1, 2]);
  });

  test.each([1, 2, 3, 4])("sums of %i vectors take turns where there are registers, and panels are as short as they can be", (vectors) => {
    const n = vectors * target.lanes - 1;
    for (const density of [0.1, 0.4]) {
      const w = csbOf(evenMatrix(300, 256, density), 128);
      const shape = sparseProductShape(groupsOf(w, "forward", target, 1, n), n);
      const kernel = sparseProductKernel("product", shape, noEpilogue({ dtype: "f32", shape: [300, n] }), target, 1);
      // Eight sums are enough, but for rows that are long.
      const most = target.registers < 32 || density > 0.15 ? 2 : 1;
      expect(JSON.stringify(kernel.body).includes('"op":"add"')).toBe(vectors <= most && !target.loadsFirst);
      const pitch = Math.max(ROW_UNIT, [1, 2, 4, 4][vectors - 1] * target.lanes * 4);
      expect(kernel.params.find(({ access }) => access === "scratch")?.bytes).toBe((256 + 512) * pitch);
    }
  });

  test.each([
    // With columns beyond the last whole vector, in several tiles, and rows of any number.
    [64, 150, 256, 0.05],
    [40, 130, 200, 0.1],
    [30, 70, 331, 0.1],
    [130, 40, 131, 0.03],
  ])("few rows times many columns go one by one, (%i, %i), n %i, density %f", (rows, columns, n, density) => {
    for (const isUneven of [false, true]) {
      const matrix = (isUneven ? sparseMatrix : evenMatrix)(rows, columns, density);
      const w = csbOf(matrix, 64);
      const [x, g] = [denseMatrix(columns, n, 5), denseMatrix(rows, n, 6)];
      for (const [direction, isTransposed, operand] of [
        ["forward", false, x],
        ["transposed", true, g],
      ] as const) {
        const { broad, panels } = groupsOf(w, direction, target, 1, n);
        expect(broad).toBe(!target.loadsFirst);
        if (broad) expect(panels).toBe(1);
        const y = product(w, direction, operand, target, 1);
        expectProduct(y, matrix, isTransposed, operand);
        for (const threads of [2, 3]) expectSameArray(product(w, direction, operand, target, threads), y, `${threads} threads`);
      }
    }
  });

  test("rows of more nonzeros than a broad walk counts, and operands that the caches do not hold, go by panels", () => {
    const { lanes, l2 } = target;
    const n = 16 * lanes;
    const isBroad = ({ rows, columns, data }: Matrix, n: number): boolean =>
      groupsOf(csbOf({ rows, columns, data }, 64), "forward", target, 1, n).broad;
    const matrix = { rows: 16, columns: 600, data: evenMatrix(16, 600, 0.05).data };
    expect(isBroad(matrix, n)).toBe(!target.loadsFirst);
    expect(isBroad(matrix, Math.ceil(l2 / (4 * 600)))).toBe(false);
    matrix.data.fill(1, 0, 512);
    expect(isBroad(matrix, n)).toBe(false);
  });

  test("infinities stay in the rows that have them", () => {
    const matrix = sparseMatrix(70, 90, 0.1);
    const w = csbOf(matrix, 64);
    const x = denseMatrix(90, 16, 5);
    x.data.fill(Number.POSITIVE_INFINITY, 0, 16);
    const isTouched = (y: Float32Array, n: number): boolean[] => Array.from({ length: 70 }, (_, r) => !Number.isFinite(y[r * n]));
    const wanted = Array.from({ length: 70 }, (_, r) => matrix.data[r * 90] !== 0);
    expect(isTouched(product(w, "forward", x, target, 1), 16)).toEqual(wanted);
  });
});

/** A bundle as numbers: its rows' places, what they have in common two by two, entries of turns, and where all begin. */
const bundleOf = ({ visits, abreast }: Groups, p: number) => {
  const words = Array.from(visits.subarray(2 * abreast * p, 2 * abreast * (p + 1)));
  const low = words.filter((_, i) => i % 2 === 0);
  const rows = low.map((w) => (w & 0x7fffff) >> Math.log2(ROW_UNIT));
  return { rows, shared: (low[0] & (ROW_UNIT - 1)) * STEP, turns: low[0] >>> COUNT_SHIFT, first: words[1] / 2 };
};
/** Places of row h among the entries of a bundle. */
const entriesOf = (first: number, h: number, count: number, abreast: number): number[] =>
  Array.from({ length: count }, (_, j) => {
    const [turn, size] = [Math.floor(j / STEP), Math.min(STEP, count - STEP * Math.floor(j / STEP))];
    return first + turn * STEP * abreast + h * size + (j % STEP);
  });

describe.each(TARGETS)("groups of bundles, $name", (target) => {
  test.each([
    ["forward", 0.05, "uneven"],
    ["transposed", 0.05, "even"],
    ["forward", 0.4, "even"],
    ["transposed", 0.4, "uneven"],
  ] as const)(
    "%s, density %f, %s rows: each nonzero once, in its row and panel, zeros behind them, bundles ordered by counts",
    (direction, density, kind) => {
      const matrix = (kind === "even" ? evenMatrix : sparseMatrix)(300, 700, density);
      const w = csbOf(matrix, 64);
      const groups = groupsOf(w, direction, target, 2);
      const { place, starts, coordinate, panel, panels, strip, depth, length, abreast } = groups;
      if (kind === "even") expect(abreast).toBe(WIDEST[target.name]);
      const positions: (readonly [number, number])[] = [];
      visitCsb(w, (r, c, i) => {
        positions[i] = direction === "forward" ? [r, c] : [c, r];
      });
      const found: number[] = [];
      let [previous, shared] = [0, 0];
      /** One row's columns. */
      const expectRow = (row: number, entries: readonly number[], base: number, isRepeated: boolean): number[] => {
        const places = entries.map((i) => place[i]);
        const real = places.filter((p) => p >= 0);
        expect(places.slice(0, real.length)).toEqual(real);
        if (!isRepeated) found.push(...real);
        const own = entries.map((i) => base + coordinate[i]);
        expect(own.slice(0, real.length).map((k) => [row, k])).toEqual(real.map((p) => positions[p]));
        // Zeros are where the row has a nonzero anyway.
        expect(new Set(own.slice(0, real.length))).toEqual(new Set(own));
        return own;
      };
      for (let g = 0; g + 1 < starts.length; g++) {
        const rest = g % GROUPS;
        const number = Math.floor(g / GROUPS) % panels;
        const top = Math.floor(g / GROUPS / panels) * strip * 64;
        let before = [0, 0];
        for (let p = starts[g]; p < starts[g + 1]; p++) {
          const bundle = bundleOf(groups, p);
          expect(bundle.turns % STEP).toBe(0);
          const counts = [bundle.shared, bundle.turns];
          expect(counts[0] > before[0] || (counts[0] === before[0] && counts[1] >= before[1])).toBe(true);
          before = counts;
          const count = bundle.shared + bundle.turns + rest;
          expect(bundle.first).toBe(previous);
          previous += abreast * count;
          const base = panelBase(number * panel, depth);
          const columns = bundle.rows.map((row, h) =>
            expectRow(top + row, entriesOf(bundle.first, h, count, abreast), base, bundle.rows.indexOf(row) < h),
          );
          for (let h = 0; h + 1 < abreast; h += 2)
            expect(columns[h].slice(0, bundle.shared)).toEqual(columns[h + 1].slice(0, bundle.shared));
          shared += abreast * bundle.shared;
        }
      }
      expect(previous).toBe(length);
      expect(found.sort((x, y) => x - y)).toEqual(Array.from(w.values, (_, i) => i));
      expect([...place.subarray(length)]).toEqual(new Array(PADDING).fill(-1));
      expect(length).toBeLessThan(1.1 * w.values.length);
      // At random places two rows share 0.4 of their nonzeros, and the rows chosen share more.
      if (density < 0.1 || abreast === 1) expect(shared).toBe(0);
      else expect(shared / w.values.length).toBeGreaterThan(0.4);
    },
  );
});

test("a strip that has more than 65536 entries in a panel is refused: two bytes do not tell them apart", () => {
  const data = new Float32Array(2048 * 1024);
  for (let r = 0; r < 256; r++) data.fill(1, r * 1024, (r + 1) * 1024);
  data.fill(0, 1, 1024);
  const [avx512] = TARGETS;
  const groups = (rows: number) => groupsOf(csbOf({ rows, columns: 1024, data: data.subarray(0, rows * 1024) }, 128), "transposed", avx512);
  expect(spreadGroups(groups(256))).not.toBeNull();
  expect(spreadGroups({ ...groups(2048) })).toBeNull();
});
