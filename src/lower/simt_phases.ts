// Lowers a chain of small results and what is computed of them to one SIMT kernel: every workgroup computes the small ones, one after another, in shared memory, and its part of the last.
import { invariant } from "../ir/error.ts";
import type { Expr } from "../ir/expr.ts";
import type { Reader, TensorType } from "../ir/graph.ts";
import { linearIndex, newVar, varIndex } from "../ir/index_expr.ts";
import { fn, int, type Reg, SimtBuilder, type SimtKernel, type SimtTarget, sum, thread } from "../ir/simt.ts";
import { elementCount, stridesOf } from "../ir/tensor.ts";
import { Rewriter } from "./rewrite.ts";
import { ExprCode, extentOf, isContiguousAlong, outermost, SUBGROUP, type Team } from "./simt_expr.ts";
import { gridOf, linearGroup, merged, type Task } from "./simt_group.ts";
import { type LaneTask, lanesOf, loadLanes } from "./simt_lanes.ts";

/** Threads of a workgroup, at most. */
const THREADS = 1024;
/** Values that a thread adds up by itself before others help. */
const ALONE = 4;
/** Elements of the last result for each thread, and workgroups on a multiprocessor, where there are so many. */
const EACH = 4;
const RESIDENTS = 2;
const MULTIPROCESSORS = 16;

/**
 * Parameters: a buffer for each input, then the output. Phases are f32; their loads beyond the inputs are of the phases before them, by number, and so are the
 * last reader's of all of them. `most` workgroups, at most.
 */
export function lowerSimtPhases(
  name: string,
  phases: readonly Reader[],
  last: Reader,
  inputs: readonly TensorType[],
  target: SimtTarget,
  most: number,
): SimtKernel {
  const b = new SimtBuilder(name, target);
  const buffers = inputs.map(({ dtype, shape }, i) => b.buffer(`in${i}`, dtype, elementCount(shape), "read"));
  const output = b.buffer("out", last.type.dtype, elementCount(last.type.shape), "write");
  const code = new ExprCode(b, buffers);
  const threads = Math.min(THREADS, target.maxThreads);
  for (const [i, phase] of phases.entries()) {
    invariant(phase.type.dtype === "f32", `${name}: a phase of ${phase.type.dtype}`);
    const array = b.array("f32", elementCount(phase.type.shape));
    const task = taskOf(phase);
    const team = teamOf(task, threads);
    eachOf(b, code, task, team, int(0), team.columns, (at, value) => b.storeShared(array, at, value));
    b.barrier();
    code.keep(inputs.length + i, array);
  }
  const task = taskOf(last);
  const lanes = outermost(task.exprs[0]).length === 0 && last.type.dtype === "f32" ? lanesOf(task.exprs, task.out, task.axes) : null;
  if (lanes) return lastByLanes(b, code, lanes, output, buffers, threads, most);
  const team = teamOf(task, threads);
  const count = extentOf(task.axes);
  const wanted = Math.ceil(count / (team.rows === 1 ? threads * EACH : team.columns));
  const grid = gridOf(Math.min(wanted, most, RESIDENTS * (target.units ?? MULTIPROCESSORS)), target);
  const step = grid[0] * grid[1] * team.columns;
  eachOf(b, code, task, team, fn("mul", linearGroup(grid), team.columns), step, (_, value) => b.store(output, code.index(task.out), value));
  return b.build([threads, 1, 1], grid);
}

/** The last result where each of its elements is computed alone: several neighbours in a thread. */
function lastByLanes(
  b: SimtBuilder,
  code: ExprCode,
  lanes: LaneTask,
  output: number,
  buffers: readonly number[],
  threads: number,
  most: number,
): SimtKernel {
  const count = extentOf(lanes.axes);
  const grid = gridOf(Math.min(Math.ceil(count / threads), most, RESIDENTS * (b.target.units ?? MULTIPROCESSORS)), b.target);
  b.loop(sum(fn("mul", linearGroup(grid), threads), thread()), count, grid[0] * grid[1] * threads, (at) =>
    code.inside(() => {
      code.bind(lanes.axes, at);
      loadLanes(b, code, lanes, buffers, (input) => input < buffers.length && b.typeOf(buffers[input]) === "f32");
      const values = lanes.exprs.map(([e]) => b.let(code.value(e)));
      b.storeVector({ k: "buffer", number: output }, b.let(code.index(lanes.out)), values);
    }),
  );
  return b.build([threads, 1, 1], grid);
}

function taskOf({ type, at }: Reader): Task {
  const axes = type.shape.map((d) => newVar(d));
  const index = axes.map(varIndex);
  const rewriter = new Rewriter();
  return merged({ exprs: [rewriter.expr(at(index))], out: linearIndex(index, stridesOf(type.shape)), axes });
}

const longestOf = (e: Expr): number => Math.max(1, ...outermost(e).map((r) => extentOf(r.vars)));
const powerOf2 = (n: number): number => 2 ** Math.ceil(Math.log2(Math.max(1, n)));

/** Who adds up each element of a task: neighbouring threads where they read neighbouring memory, others where neighbouring elements do. */
function teamOf({ exprs: [e], axes }: Task, threads: number): Team {
  const reductions = outermost(e);
  const innermost = axes[axes.length - 1];
  const runsAcross = axes.length > 0 && reductions.every((r) => isContiguousAlong(r, innermost));
  const wanted = powerOf2(longestOf(e) / ALONE);
  const room = Math.max(1, threads / powerOf2(extentOf(axes)));
  if (runsAcross) {
    const rows = Math.min(wanted, Math.max(threads / SUBGROUP, room), threads);
    const columns = threads / rows;
    return { rows, columns, column: fn("rem", thread(), columns), row: fn("div", thread(), columns) };
  }
  const rows = Math.min(wanted, SUBGROUP, room);
  return { rows, columns: threads / rows, column: fn("div", thread(), rows), row: fn("rem", thread(), rows), isLanes: true };
}

/** Computes every element from `first` on, `step` elements apart for each team; `put` is given its number and value. */
function eachOf(
  b: SimtBuilder,
  code: ExprCode,
  { exprs: [e], axes }: Task,
  team: Team,
  first: Reg,
  step: number,
  put: (at: Reg, value: Reg) => void,
): void {
  const count = extentOf(axes);
  const [row, column] = [b.let(team.row), b.let(team.column)];
  const reductions = outermost(e);
  b.loop(first, count, step, (from) =>
    code.inside(() => {
      const at = b.let(sum(from, column));
      // All threads go through all barriers: those beyond the end work on the last element.
      code.bind(axes, b.let(fn("min", at, count - 1)));
      for (const r of reductions) code.reduceTogether(r, { ...team, row, column });
      const isOwn = fn("lt", at, count);
      b.when(team.rows === 1 ? isOwn : fn("and", isOwn, fn("eq", row, 0)), () => code.inside(() => put(at, code.value(e))));
    }),
  );
}
