// Running sums along lines: a thread or a workgroup for each part of a line; sums of the parts before are added where lines are cut.
import type { DType } from "../../ir/dtype.ts";
import {
  bits,
  fn,
  int,
  num,
  type Reg,
  registerType,
  SimtBuilder,
  type SimtKernel,
  type SimtTarget,
  select,
  sum,
  thread,
} from "../../ir/simt.ts";
import { gridOf, linearGroup } from "../../lower/simt_group.ts";
import { convertRegister, scalarFn } from "../../lower/simt_scalar.ts";

/** Lines of n elements, `inner` apart. */
export interface ScanShape {
  readonly dtype: DType;
  readonly outer: number;
  readonly n: number;
  readonly inner: number;
  /** Elements of each part of a line, in the order of the sums, and whether the sums before each part are given. */
  readonly part: number;
  readonly isCut: boolean;
  readonly isExclusive: boolean;
  readonly isReverse: boolean;
}

export const partsOf = ({ n, part }: Pick<ScanShape, "n" | "part">): number => Math.ceil(n / part);
/** What is summed in; i64 has no register that holds its sums. */
export const sumType = (dtype: DType): "f32" | "i32" | undefined =>
  dtype === "i64" || dtype === "bool" ? undefined : registerType(dtype) === "f32" ? "f32" : registerType(dtype) && "i32";

const THREADS = 256;
/** Neighbours that a thread sums by itself. */
const OWN = 4;
/** Shorter parts, and those of so many, are a thread's. */
const SHORT = 32;
const MANY = 1 << 14;

/** Buffers: x, with cut lines the sums before each part as (outer, part, inner), and the output. */
export function scanKernel(name: string, shape: ScanShape, target: SimtTarget): SimtKernel {
  const { dtype, outer, n, inner, part, isCut, isExclusive, isReverse } = shape;
  const b = new SimtBuilder(name, target);
  const type = sumType(dtype)!; // of what is scanned
  const [count, parts] = [outer * n * inner, partsOf(shape)];
  const lines = outer * parts * inner;
  const x = b.buffer("x", dtype, count, "read");
  const before = isCut ? b.buffer("before", type, lines, "read") : 0;
  const out = b.buffer("out", dtype, count, "write");
  const isAlone = part <= SHORT || lines >= MANY;
  const groups = isAlone ? Math.ceil(lines / THREADS) : lines;
  const grid = gridOf(groups, target);
  const number = isAlone ? b.let(sum(fn("mul", linearGroup(grid), THREADS), thread())) : linearGroup(grid);
  const line = b.let(fn("min", number, lines - 1)); // those beyond the last go through the barriers too
  const rest = b.let(fn("div", line, inner));
  const own = b.let(fn("rem", rest, parts));
  const first = b.let(fn("mul", own, part));
  const length = b.let(fn("min", fn("sub", int(n), first), part));
  const base = b.let(sum(fn("mul", fn("div", rest, parts), n * inner), fn("rem", line, inner)));
  const add = (p: Reg, q: Reg): Reg => b.let(scalarFn("add", type, [p, q]));
  const zero = num(type, 0);

  const placeOf = (k: Reg): Reg => {
    const at = sum(first, k);
    return b.let(sum(base, fn("mul", isReverse ? fn("sub", int(n - 1), at) : at, inner)));
  };
  const element = (at: Reg): Reg => {
    const value = b.load(x, at);
    return value.type === "u32" ? bits("i32", value) : value;
  };
  const put = (at: Reg, value: Reg): void => b.store(out, at, dtype === "u32" ? bits("u32", value) : convertRegister(dtype, type, value));
  const total = b.variable(type, isCut ? b.load(before, line) : zero);

  const alone = (): void =>
    b.loop(0, length, 1, (k) => {
      const at = placeOf(k);
      const value = b.let(element(at));
      if (isExclusive) put(at, total);
      b.set(total, scalarFn("add", type, [total, value]));
      if (!isExclusive) put(at, total);
    });

  /** Each thread its own neighbours, then the sums of all threads in log₂ steps. */
  const together = (): void => {
    const sums = b.array(type, THREADS);
    const at = (t: Reg): Reg => b.loadShared(sums, t);
    b.loop(0, length, THREADS * OWN, (from) => {
      const start = b.let(sum(from, fn("mul", thread(), OWN)));
      const places = Array.from({ length: OWN }, (_, i) => sum(start, i));
      const spots = places.map((k) => placeOf(fn("min", k, fn("sub", length, 1))));
      const values = places.map((k, i) => b.let(select(fn("lt", k, length), element(spots[i]), zero)));
      const running = values.slice(0, 1);
      for (const v of values.slice(1)) running.push(add(running[running.length - 1], v));
      const mine = b.variable(type, running[OWN - 1]);
      b.barrier(); // others may still read the sums before
      b.storeShared(sums, thread(), mine);
      b.barrier();
      for (let step = 1; step < THREADS; step *= 2) {
        const other = b.let(select(fn("ge", thread(), step), at(fn("max", fn("sub", thread(), step), 0)), zero));
        b.set(mine, scalarFn("add", type, [mine, other]));
        b.barrier();
        b.storeShared(sums, thread(), mine);
        b.barrier();
      }
      const ahead = add(total, select(fn("gt", thread(), 0), at(fn("max", fn("sub", thread(), 1), 0)), zero));
      for (const [i, k] of places.entries()) {
        const value = isExclusive ? (i === 0 ? ahead : add(ahead, running[i - 1])) : add(ahead, running[i]);
        b.when(fn("lt", k, length), () => put(spots[i], value));
      }
      b.set(total, scalarFn("add", type, [total, at(int(THREADS - 1))]));
    });
  };

  if (isAlone) b.when(fn("lt", number, lines), alone);
  else together();
  return b.build([THREADS, 1, 1], grid);
}
