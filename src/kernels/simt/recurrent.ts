// Recurrent layers step by step in one kernel: a workgroup for each sequence and direction keeps the state in shared memory and goes through all steps.
import type { DType } from "../../ir/dtype.ts";
import { float, fn, int, type Reg, SimtBuilder, type SimtKernel, type SimtTarget, select, sum, thread } from "../../ir/simt.ts";
import { gridOf, linearGroup } from "../../lower/simt_group.ts";
import { convertRegister } from "../../lower/simt_scalar.ts";

export interface RecurrentShape {
  readonly cell: "RNN" | "GRU" | "LSTM";
  readonly dtype: DType;
  readonly steps: number;
  readonly batch: number;
  readonly hidden: number;
  readonly directions: number;
  readonly isReverse: boolean;
  readonly isBatchFirst: boolean;
  /** GRU: the reset gate comes behind the product with the state, whose third bias is then read by itself. */
  readonly isLinear: boolean;
  readonly hasBias: boolean;
  readonly hasH: boolean;
  readonly hasC: boolean;
}

export const GATES = { RNN: 1, GRU: 3, LSTM: 4 } as const;

const THREADS = 512;
/** Weights that a thread has under way at once. */
const MOST = 8;

/** Whether the state and the sums of all gates fit shared memory. */
export const fitsRecurrent = ({ cell, hidden }: RecurrentShape, { sharedBytes }: SimtTarget): boolean =>
  4 * hidden * (GATES[cell] + 2) <= Math.min(sharedBytes, 48 << 10);

const sigmoid = (a: Reg): Reg => fn("div", float(1), fn("add", fn("exp", fn("neg", a)), 1));
const tanh = (a: Reg): Reg => fn("tanh", a);

/**
 * Buffers: products of the inputs with the biases (direction, step, batch, gate), recurrence weights (direction, unit, gate), then as far as there are: biases, first h, first c;
 * y, last h, and of LSTM last c.
 */
export function recurrentKernel(name: string, shape: RecurrentShape, target: SimtTarget): SimtKernel {
  const { cell, dtype, steps, batch, hidden, directions, isReverse, isBatchFirst, isLinear, hasBias, hasH, hasC } = shape;
  const b = new SimtBuilder(name, target);
  const rows = GATES[cell] * hidden;
  const states = directions * batch * hidden;
  const given = b.buffer("given", "f32", directions * steps * batch * rows, "read");
  const weights = b.buffer("weights", dtype, directions * hidden * rows, "read");
  const bias = isLinear && hasBias ? b.buffer("bias", dtype, directions * 2 * rows, "read") : null;
  const firstH = hasH ? b.buffer("h0", dtype, states, "read") : null;
  const firstC = hasC ? b.buffer("c0", dtype, states, "read") : null;
  const y = b.buffer("y", dtype, steps * states, "write");
  const lastH = b.buffer("h", dtype, states, "write");
  const lastC = cell === "LSTM" ? b.buffer("c", dtype, states, "write") : null;
  const h = b.array("f32", hidden);
  const other = b.array("f32", hidden); // c, or the gated h
  const sums = b.array("f32", rows);
  const threads = Math.min(THREADS, target.maxThreads, 2 ** Math.ceil(Math.log2(Math.max(32, rows))));
  const lines = directions * batch;
  const grid = gridOf(lines, target);
  const group = b.let(linearGroup(grid));
  const line = b.let(fn("min", group, lines - 1)); // groups beyond the last go through the barriers too
  const [d, n] = [b.let(fn("div", line, batch)), b.let(fn("rem", line, batch))];
  const state = b.let(fn("mul", isBatchFirst ? sum(fn("mul", n, directions), d) : line, hidden));
  const isReal = b.let(fn("lt", group, lines));
  const eachUnit = (build: (j: Reg) => void): void => b.loop(thread(), hidden, threads, build);
  const put = (to: number, at: Reg, value: Reg): void => b.when(isReal, () => b.store(to, at, convertRegister(dtype, "f32", value)));
  const gate = (i: number, j: Reg): Reg => b.loadShared(sums, sum(j, i * hidden));

  /** Gates `from` to `to` of the step that begins at `at`, from a state of all units. */
  const products = (from: number, to: number, at: Reg, vector: number): void => {
    const run = hidden % MOST === 0 ? MOST : hidden % 4 === 0 ? 4 : 1;
    b.loop(sum(thread(), from * hidden), to * hidden, threads, (row) => {
      const isBehindReset = isLinear && from === 2;
      const start = isBehindReset ? (bias === null ? float(0) : b.load(bias, sum(fn("mul", d, 2 * rows), row, rows))) : b.load(given, sum(at, row)); // biome-ignore format: a choice
      const total = b.variable("f32", start);
      const column = b.let(sum(fn("mul", d, hidden * rows), row));
      b.loop(0, hidden, run, (k) => {
        const first = b.let(sum(column, fn("mul", k, rows)));
        const values = Array.from({ length: run }, (_, i) => b.let(b.load(weights, sum(first, i * rows))));
        for (const [i, w] of values.entries()) b.set(total, fn("fma", w, b.loadShared(vector, sum(k, i)), total));
      });
      b.storeShared(sums, row, total);
    });
    b.barrier();
  };

  eachUnit((j) => {
    b.storeShared(h, j, firstH === null ? float(0) : b.load(firstH, sum(state, j)));
    b.storeShared(other, j, firstC === null ? float(0) : b.load(firstC, sum(state, j)));
  });
  b.barrier();
  b.loop(0, steps, 1, (i) => {
    const back = fn("sub", int(steps - 1), i);
    const t = b.let(isReverse ? back : directions === 2 ? select(fn("eq", d, 1), back, i) : i);
    const at = b.let(fn("mul", sum(fn("mul", sum(fn("mul", d, steps), t), batch), n), rows));
    const to = b.let(fn("mul", isBatchFirst ? sum(fn("mul", sum(fn("mul", n, steps), t), directions), d) : sum(fn("mul", sum(fn("mul", t, directions), d), batch), n), hidden)); // biome-ignore format: a choice
    const next = (j: Reg, value: Reg): void => {
      b.storeShared(h, j, value);
      put(y, sum(to, j), value);
    };
    if (cell === "GRU") {
      products(0, 2, at, h);
      if (isLinear) products(2, 3, at, h);
      else {
        eachUnit((j) => b.storeShared(other, j, fn("mul", sigmoid(gate(1, j)), b.loadShared(h, j))));
        b.barrier();
        products(2, 3, at, other);
      }
      eachUnit((j) => {
        const z = b.let(sigmoid(gate(0, j)));
        const recurrent = isLinear ? fn("add", b.load(given, sum(at, j, 2 * hidden)), fn("mul", sigmoid(gate(1, j)), gate(2, j))) : gate(2, j); // biome-ignore format: a choice
        const candidate = b.let(tanh(recurrent));
        next(j, b.let(fn("add", candidate, fn("mul", z, fn("sub", b.loadShared(h, j), candidate)))));
      });
    } else {
      products(0, GATES[cell], at, h);
      eachUnit((j) => {
        if (cell === "RNN") return next(j, b.let(tanh(gate(0, j))));
        const c = b.let(fn("add", fn("mul", sigmoid(gate(2, j)), b.loadShared(other, j)), fn("mul", sigmoid(gate(0, j)), tanh(gate(3, j))))); // biome-ignore format: the formula
        b.storeShared(other, j, c);
        next(j, b.let(fn("mul", sigmoid(gate(1, j)), tanh(c))));
      });
    }
    b.barrier();
  });
  eachUnit((j) => {
    put(lastH, sum(state, j), b.loadShared(h, j));
    if (lastC !== null) put(lastC, sum(state, j), b.loadShared(other, j));
  });
  return b.build([threads, 1, 1], grid);
}
