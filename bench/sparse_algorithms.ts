// Times W·X by every algorithm against our own dense product, in turns, each on a matrix of the pattern that it is made for.
// Options: --shape 2048x512,…, --sparsity 0.5,0.9,…, --n 1,64,…, --threads N (default 1), --isa avx512|avx2, --device x86|wasm, --only NAME,…, --json.
import { parseArgs } from "node:util";
import { createProgress } from "../src/cli/progress.ts";
import { randomNumbers } from "../src/cli/random.ts";
import { rounded } from "../src/cli/statistics.ts";
import { formatTable } from "../src/cli/table.ts";
import { type DeviceOptions, openDevice } from "../src/devices/open.ts";
import { HeddleError } from "../src/ir/error.ts";
import { fromNumbers } from "../src/ir/tensor.ts";
import { SPARSE_BLOCK } from "../src/kernels/sparse_groups.ts";
import { type Coo, cooFromDense, cooToDense } from "../src/sparse/coo.ts";
import { type Algorithm, floats } from "./sparse/algorithm.ts";
import { ALGORITHMS } from "./sparse/algorithms.ts";
import { worstError } from "./sparse/check.ts";
import { type Contestant, Ring } from "./sparse/contestants.ts";
import { interleaved } from "./sparse/interleaved.ts";
import { Matrix, Weights } from "./sparse/weights.ts";

const { values: options } = parseArgs({
  options: {
    shape: { type: "string", default: "2048x512,4096x4096" },
    sparsity: { type: "string", default: "0.5,0.8,0.9,0.95" },
    n: { type: "string", default: "1,64" },
    threads: { type: "string", default: "1" },
    device: { type: "string" },
    isa: { type: "string" },
    only: { type: "string" },
    json: { type: "boolean", default: false },
  },
});
const only = options.only?.split(",");
const progress = createProgress();
const device = await openDevice({ device: options.device, isa: options.isa, threads: Number(options.threads) } as DeviceOptions); // wrong names are openDevice's to refuse

const ROUNDS = { turns: 15, seconds: 0.15 };

interface Row {
  readonly shape: string;
  readonly sparsity: number;
  readonly n: number;
  readonly name: string;
  readonly nonzeros: number;
  /** Tenth percentiles, which other programs on the machine disturb least. */
  readonly denseMs: number;
  readonly ms: number;
  /** Dense over sparse, of these. */
  readonly ratio: number;
  /** The largest error, in units of the bound. */
  readonly error: number;
}

const matrixOf = (rows: number, columns: number, w: Float32Array): Coo => cooFromDense(fromNumbers("f32", [rows, columns], w));

/** Elements with equal chances to stay; of "2:4" two of four, some of which are zeros where more than half are to be. */
function problemOf(shape: string, sparsity: number, n: number, { suits, rounded }: Partial<Algorithm>) {
  const [rows, columns] = shape.split("x").map(Number);
  const next = randomNumbers(rows + columns + n);
  const some = (count: number): Float32Array => Float32Array.from({ length: count }, () => next() * 2 - 1);
  const w = some(rows * columns);
  if (suits === "2:4") pruneTwoFour(w, sparsity, next);
  else pruneBlocks(w, columns, suits ?? 1, sparsity, next);
  const used = rounded ? floats({ values: cooToDense(rounded(matrixOf(rows, columns, w))).data }) : w;
  return { matrix: new Matrix(rows, columns, used, SPARSE_BLOCK), operands: { n, x: some(columns * n), g: some(rows * n) } };
}

/** Square blocks, all or nothing. */
function pruneBlocks(w: Float32Array, columns: number, block: number, sparsity: number, next: () => number): void {
  const across = Math.ceil(columns / block);
  const isKept = Array.from({ length: across * Math.ceil(w.length / columns / block) }, () => next() >= sparsity);
  for (let i = 0; i < w.length; i++) {
    const [row, column] = [Math.floor(i / columns), i % columns];
    if (!isKept[Math.floor(row / block) * across + Math.floor(column / block)]) w[i] = 0;
  }
}

function pruneTwoFour(w: Float32Array, sparsity: number, next: () => number): void {
  for (let i = 0; i < w.length; i += 4) {
    const dropped = Math.floor(next() * 4);
    w[i + dropped] = w[i + ((dropped + 1 + Math.floor(next() * 3)) % 4)] = 0;
    for (let k = i; k < i + 4; k++) if (next() < 2 * sparsity - 1) w[k] = 0;
  }
}

/** What does not take the matrix, like code for too many nonzeros, is left out. */
async function contestantsOf(ring: Ring, algorithm: Algorithm | null, matrix: Matrix): Promise<Contestant[]> {
  if (!algorithm) return ring.contestants("forward");
  try {
    return [await ring.dense("forward"), await ring.algorithm(algorithm, matrix.coo())];
  } catch (error) {
    if (error instanceof HeddleError && error.code === "unsupported") return [];
    throw error;
  }
}

const table: Row[] = [];
for (const shape of options.shape.split(","))
  for (const sparsity of options.sparsity.split(",").map(Number))
    for (const n of options.n.split(",").map(Number))
      for (const algorithm of [null, ...ALGORITHMS.filter(({ name }) => !only || only.includes(name))]) {
        progress.say(`${shape}, ${sparsity * 100} %, n ${n}: ${algorithm?.name ?? "CSB"}`);
        const { matrix, operands } = problemOf(shape, sparsity, n, algorithm ?? {});
        const weights = new Weights(device, matrix, 1);
        const ring = new Ring(weights, operands);
        const [dense, ...rest] = await contestantsOf(ring, algorithm, matrix);
        const [denseMs, ...times] = dense ? interleaved([dense, ...rest], ROUNDS).map(({ p10 }) => p10) : [0];
        for (const [i, contestant] of rest.entries()) {
          const error = worstError("forward", matrix, operands, matrix.csb(), contestant.result());
          if (!(error <= 1)) throw new Error(`${contestant.name} ${shape}, ${sparsity}, n ${n}: the error is ${error} times its bound`);
          const { name } = contestant;
          const [ms, ratio] = [times[i], denseMs / times[i]].map(rounded);
          table.push({
            shape,
            sparsity,
            n,
            name,
            nonzeros: matrix.w.reduce((count, v) => count + (v === 0 ? 0 : 1), 0),
            denseMs: rounded(denseMs),
            ms,
            ratio,
            error: rounded(error),
          });
        }
        ring.close();
        weights.close();
      }
device.close();
progress.clear();

if (options.json) console.log(JSON.stringify({ isa: device.target.name, threads: device.threads, table }));
else {
  const names = [...new Set(table.map(({ name }) => name))];
  const cases = [...new Set(table.map(({ shape, sparsity, n }) => `${shape} ${sparsity} ${n}`))];
  const ratioOf = (which: string, name: string): string => {
    const row = table.find((r) => `${r.shape} ${r.sparsity} ${r.n}` === which && r.name === name);
    return row ? row.ratio.toFixed(2) : "";
  };
  console.log(
    formatTable(
      ["W", "zeros", "N", ...names],
      cases.map((which) => [...which.split(" "), ...names.map((name) => ratioOf(which, name))]),
    ),
  );
}
