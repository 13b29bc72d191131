// Sums of columns: a thread reads neighbouring columns of a row at once, threads of a workgroup every so many rows.
import type { Expr } from "../ir/expr.ts";
import { fn, type Reg, type SimtBuilder, type SimtKernel, select, sum, thread } from "../ir/simt.ts";
import { type ExprCode, extentOf, outermost, type Reduction } from "./simt_expr.ts";
import { gridOf, linearGroup } from "./simt_grid.ts";
import type { Task } from "./simt_group.ts";
import { LANES, type LaneTask, lanesOf, loadLanes } from "./simt_lanes.ts";
import { combination } from "./simt_scalar.ts";

/** Threads next to each other, and rows of a workgroup at a time. */
const COLUMNS = 32;
const ROWS = 8;

const isSum = (e: Expr): boolean => e.k === "reduce" && e.dtype === "f32" && outermost(e.body).length === 0;

/** The kernel of a task; null where results are more than sums, or columns are no vectors. */
export function sumColumns(
  b: SimtBuilder,
  code: ExprCode,
  task: Task,
  buffers: readonly number[],
  outputs: readonly number[],
): SimtKernel | null {
  const isFloat = (buffer: number): boolean => ["f32", "f16", "bf16"].includes(b.typeOf(buffer));
  const lanes = task.exprs.every(isSum) && outputs.every(isFloat) ? lanesOf(task.exprs, task.out, task.axes) : null;
  if (!lanes) return null;
  const count = extentOf(lanes.axes);
  const grid = gridOf(Math.ceil(count / COLUMNS), b.target);
  const at = b.let(sum(fn("mul", linearGroup(grid), COLUMNS), thread(0)));
  code.bind(lanes.axes, b.let(fn("min", at, count - 1))); // threads beyond the end go through the barriers too
  const sums = lanes.exprs.map((exprs) => exprs as readonly Reduction[]); // isSum has seen them
  const totals = own(b, code, sums, (exprs) => loadLanes(b, code, { ...lanes, exprs }, buffers, (input) => isFloat(buffers[input])));
  const all = totals.map((values, i) => joined(b, values, sums[0][i]));
  b.when(fn("and", fn("lt", at, count), fn("eq", thread(1), 0)), () => {
    const to = b.let(code.index(lanes.out));
    for (const [i, output] of outputs.entries()) b.storeVector({ k: "buffer", number: output }, to, all[i]);
  });
  return b.build([COLUMNS, ROWS, 1], grid);
}

/** What a thread joins of its rows: of each output, of each lane. `load` reads for all bodies what lies side by side. */
function own(
  b: SimtBuilder,
  code: ExprCode,
  sums: readonly (readonly Reduction[])[],
  load: (bodies: LaneTask["exprs"]) => void,
): readonly (readonly Reg[])[] {
  const extent = extentOf(sums[0][0].vars);
  const joins = sums[0].map((r) => combination(r.combine, "f32"));
  const totals = joins.map(({ start }) => sums.map(() => b.variable("f32", start)));
  code.inBatches(thread(1), ROWS, extent, (i, isThere) => {
    for (const r of new Set(sums.flat())) code.bind(r.vars, isThere ? b.let(fn("min", i, extent - 1)) : i);
    load(sums.map((lane) => lane.map((r) => r.body)));
    for (const [o, lanes] of totals.entries())
      for (const [lane, total] of lanes.entries()) {
        const value = code.value(sums[lane][o].body);
        b.set(total, joins[o].join(total, isThere ? select(isThere, value, joins[o].start) : value));
      }
  });
  return totals;
}

/** What the rows' threads hold for the same columns, joined by a tree in shared memory; it is right in the first row. */
function joined(b: SimtBuilder, values: readonly Reg[], { combine }: Reduction): readonly Reg[] {
  const { join } = combination(combine, "f32");
  const shared = { k: "shared", number: b.array("f32", ROWS * COLUMNS * LANES) } as const;
  const place = (row: Reg): Reg => b.let(fn("mul", sum(fn("mul", row, COLUMNS), thread(0)), LANES));
  const at = place(thread(1));
  b.storeVector(shared, at, values);
  for (let half = ROWS / 2; half >= 1; half /= 2) {
    b.barrier();
    b.when(fn("lt", thread(1), half), () => {
      const [ours, theirs] = [at, place(sum(thread(1), half))].map((from) => b.loadVector(shared, from, LANES));
      b.storeVector(shared, at, ours.map((v, i) => join(v, theirs[i]))); // biome-ignore format: one idea
    });
  }
  return b.loadVector(shared, at, LANES);
}
