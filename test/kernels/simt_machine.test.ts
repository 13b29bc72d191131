// The machine that kernels run on here: it finds what a GPU would do wrong, and keeps what threads have apart.
import { describe, expect, test } from "vitest";
import { cast, exchange, float, fn, int, SimtBuilder, thread } from "../../src/ir/simt.ts";
import { H200, runKernel } from "./simt_machine.ts";

const THREADS = 64;
/** What so many threads write to a list of as many numbers. */
function written(build: (k: SimtBuilder, out: number) => void, arrival: "early" | "late" = "late", more: Float64Array[] = []): number[] {
  const k = new SimtBuilder("test", H200);
  const out = k.buffer("out", "f32", THREADS, "write");
  build(k, out);
  const list = new Float64Array(THREADS);
  runKernel(k.build([THREADS, 1, 1], [1, 1, 1]), [list, ...more], arrival);
  return [...list];
}
const threads = Array.from({ length: THREADS }, (_, t) => t);

describe("threads", () => {
  test("keep what they computed over barriers, and see what others stored before", () => {
    const got = written((k, out) => {
      const shared = k.array("i32", THREADS);
      const own = k.let(fn("mul", thread(), 3));
      k.storeShared(shared, thread(), own);
      k.barrier();
      const other = k.let(k.loadShared(shared, fn("sub", int(THREADS - 1), thread())));
      k.barrier();
      k.store(out, thread(), fn("sub", own, other));
    });
    expect(got).toEqual(threads.map((t) => 3 * t - 3 * (THREADS - 1 - t)));
  });
  test("go through a loop with barriers together", () => {
    const got = written((k, out) => {
      const shared = k.array("f32", THREADS);
      const value = k.variable("f32", cast("f32", thread()));
      k.loop(0, 3, 1, () => {
        k.storeShared(shared, thread(), value);
        k.barrier();
        k.set(value, k.loadShared(shared, fn("rem", fn("add", thread(), 1), THREADS)));
        k.barrier();
      });
      k.store(out, thread(), value);
    });
    expect(got).toEqual(threads.map((t) => (t + 3) % THREADS));
  });
  test("exchange values", () => {
    const got = written((k, out) => {
      const sum = k.variable("f32", cast("f32", thread()));
      for (const by of [1, 2, 4, 8, 16]) k.set(sum, fn("add", sum, k.let(exchange(sum, by))));
      k.store(out, thread(), sum);
    });
    expect(got).toEqual(threads.map((t) => (t < 32 ? 496 : 1520))); // sums of 32 numbers
  });
  test.each(["early", "late"] as const)("copies are there when they were waited for, %s", (arrival) => {
    const given = Float64Array.from(threads);
    const copied = (isWaited: boolean): number[] =>
      written(
        (k, out) => {
          const [from, shared] = [k.buffer("in", "f32", THREADS, "read"), k.array("f32", THREADS)];
          k.copy(shared, thread(), from, thread(), 1);
          k.commitCopies();
          if (isWaited) k.copiesDone();
          k.barrier();
          k.store(out, thread(), k.loadShared(shared, thread()));
        },
        arrival,
        [given],
      );
    expect(copied(true)).toEqual(threads);
    expect(copied(false)).toEqual(arrival === "early" ? threads : threads.map(() => Number.NaN));
  });
});

describe("what is wrong", () => {
  test("a barrier that not all threads meet", () => {
    const build = (k: SimtBuilder): void => k.when(fn("lt", thread(), 32), () => k.barrier());
    expect(() => written(build)).toThrow("not all threads meet");
  });
  test("elements outside of a buffer", () => {
    expect(() => written((k, out) => k.store(out, fn("add", thread(), 1), float(1)))).toThrow(`element ${THREADS} of ${THREADS}`);
    expect(() => written((k, out) => k.store(out, fn("sub", thread(), 1), float(1)))).toThrow("element -1");
  });
  test("shared memory and registers that nothing was put into", () => {
    const ofShared = written((k, out) => k.store(out, thread(), k.loadShared(k.array("f32", THREADS), thread())));
    const ofRegister = written((k, out) => k.store(out, thread(), k.variable("f32")));
    expect([...ofShared, ...ofRegister].every(Number.isNaN)).toBe(true);
  });
});
