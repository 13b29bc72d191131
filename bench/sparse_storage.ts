// What each sparse format takes: bytes an element of the dense matrix, and the time to make it, by sparsity.
// Options: --shape 4096x4096, --sparsity 0.5,0.7,0.8,0.9,0.95,0.98, --dtype f32|f64|f16|bf16|i8 (default bf16), --mtx FILE (its matrix instead of random ones), --json.
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { randomNumbers } from "../src/cli/random.ts";
import { formatTable } from "../src/cli/table.ts";
import { readMatrixMarket } from "../src/formats/matrix_market.ts";
import { HeddleError } from "../src/ir/error.ts";
import { type AnyMatrix, toBitmap, toBsr, toCoo, toCsb, toCsc, toCsr, toNibble, toTwoFour, withType } from "../src/sparse/convert.ts";
import type { Coo } from "../src/sparse/coo.ts";
import type { SparseMatrix } from "../src/sparse/matrix.ts";
import { statisticsOf } from "../src/sparse/statistics.ts";
import { asValueType, type ValueType } from "../src/sparse/values.ts";

const { values: options } = parseArgs({
  options: {
    shape: { type: "string", default: "4096x4096" },
    sparsity: { type: "string", default: "0.5,0.7,0.8,0.9,0.95,0.98" },
    dtype: { type: "string", default: "bf16" },
    mtx: { type: "string" },
    json: { type: "boolean", default: false },
  },
});
const dtype = asValueType(options.dtype as ValueType, "bench: --dtype"); // refuses others

const FORMATS: Readonly<Record<string, (m: AnyMatrix) => SparseMatrix>> = {
  COO: toCoo,
  CSR: toCsr,
  CSC: toCsc,
  "BSR 8": (m) => toBsr(m, 8),
  "BSR 16": (m) => toBsr(m, 16),
  "BSR 32": (m) => toBsr(m, 32),
  "2:4": toTwoFour,
  "CSB 64": (m) => toCsb(m, { block: 64 }),
  "CSB 128": (m) => toCsb(m, { block: 128 }),
  "CSB 256": (m) => toCsb(m, { block: 256 }),
  "bitmap CSB": toBitmap,
  "nibble CSB": toNibble,
};

/** Nonzeros at random places; `density` of all. */
function randomCoo(density: number): Coo {
  const [rows, columns] = options.shape.split("x").map(Number);
  const random = randomNumbers(1);
  const data = new Float32Array(rows * columns);
  for (let i = 0; i < data.length; i++) if (random() < density) data[i] = random() + 0.5;
  return withType(toCoo({ dtype: "f32", shape: [rows, columns], data }), dtype);
}

interface Row {
  readonly format: string;
  /** Null where the format cannot hold the matrix. */
  readonly bytesPerElement: number | null;
  readonly makeMs: number | null;
}

function measure(m: Coo): Row[] {
  return Object.entries(FORMATS).map(([format, make]) => {
    try {
      const start = performance.now();
      const made = make(m);
      return { format, makeMs: performance.now() - start, bytesPerElement: statisticsOf(made).bytesPerElement };
    } catch (e) {
      if (e instanceof HeddleError && e.code === "bad-input") return { format, bytesPerElement: null, makeMs: null }; // 2:4 of a matrix that is not
      throw e;
    }
  });
}

const matrices: readonly (readonly [name: string, m: () => Coo])[] = options.mtx
  ? [[options.mtx, () => readMatrixMarket(readFileSync(options.mtx!), { dtype, what: options.mtx })]]
  : options.sparsity.split(",").map((s) => [`${(Number(s) * 100).toFixed(0)} %`, () => randomCoo(1 - Number(s))]);
const results = matrices.map(([name, m]) => ({ name, rows: measure(m()) }));

if (options.json) console.log(JSON.stringify({ dtype, shape: options.shape, results }));
else {
  const header = ["", ...results.map(({ name }) => name)];
  const shown = (pick: (row: Row) => number | null, digits: number): string =>
    formatTable(
      header,
      Object.keys(FORMATS).map((format, i) => [format, ...results.map(({ rows }) => pick(rows[i])?.toFixed(digits) ?? "–")]),
    );
  console.log(`bytes an element (${dtype})\n${shown((row) => row.bytesPerElement, 3)}`);
  console.log(`\nms to make it from coordinates\n${shown((row) => row.makeMs, 0)}`);
}
