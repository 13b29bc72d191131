// The memory planner: nothing that lives at the same time overlaps, and little is wasted.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type Interval, type MemoryPlan, planMemory } from "../../src/run/memory_plan.ts";

/** Two tensors in each other's way: both live at some step, and their bytes overlap, and it is no reuse in place. */
function clashes(intervals: readonly Interval[], plan: MemoryPlan): [number, number][] {
  const found: [number, number][] = [];
  for (const a of intervals) {
    for (const b of intervals) {
      if (a.id >= b.id || a.bytes === 0 || b.bytes === 0) continue;
      if (a.from > b.to || b.from > a.to) continue;
      const [x, y] = [plan.offsets.get(a.id)!, plan.offsets.get(b.id)!];
      if (x >= y + b.bytes || y >= x + a.bytes) continue;
      const reuses = (t: Interval, old: Interval) => t.mayReuse?.includes(old.id) && old.to === t.from && x === y && t.bytes <= old.bytes;
      if (!reuses(a, b) && !reuses(b, a)) found.push([a.id, b.id]);
    }
  }
  return found;
}

const steps = fc.tuple(fc.nat(30), fc.nat(8), fc.nat(5000));
const list = (rows: [number, number, number][]): Interval[] =>
  rows.map(([from, length, bytes], id) => ({ id, bytes, from, to: from + length }));

describe("planMemory", () => {
  it("never lets living tensors overlap, and needs no more than all side by side", () => {
    fc.assert(
      fc.property(fc.array(steps, { maxLength: 40 }), (rows) => {
        const intervals = list(rows);
        const plan = planMemory(intervals);
        expect(clashes(intervals, plan)).toEqual([]);
        expect(plan.arenaBytes).toBeLessThanOrEqual(plan.sumBytes);
        expect(plan.arenaBytes).toBeGreaterThanOrEqual(plan.lowerBoundBytes);
        for (const { id, bytes } of intervals) {
          expect(plan.offsets.get(id)! % 64).toBe(0);
          expect(plan.offsets.get(id)! + bytes).toBeLessThanOrEqual(plan.arenaBytes);
        }
      }),
      { numRuns: 300 },
    );
  });
  it("reuses memory in place only where that is allowed", () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(steps, fc.boolean()), { maxLength: 30 }), (rows) => {
        const plain = list(rows.map(([row]) => row));
        const intervals = plain.map((t, i): Interval => {
          const olds = plain.filter((o) => o.id !== t.id && o.to === t.from).map((o) => o.id);
          return rows[i][1] ? { ...t, mayReuse: olds.slice(0, 1) } : t;
        });
        const plan = planMemory(intervals);
        expect(clashes(intervals, plan)).toEqual([]);
        expect(plan.arenaBytes).toBeLessThanOrEqual(plan.sumBytes);
      }),
      { numRuns: 300 },
    );
  });
  it("gives a chain of equal tensors two places, and one when each may replace the one before", () => {
    const chain = Array.from({ length: 10 }, (_, i): Interval => ({ id: i, bytes: 100, from: i, to: i + 1 }));
    expect(planMemory(chain).arenaBytes).toBe(256);
    expect(planMemory(chain.map((t) => ({ ...t, mayReuse: [t.id - 1] }))).arenaBytes).toBe(128);
  });
  it("puts aliases into the tensor that they are part of, and keeps it alive for them", () => {
    const intervals: Interval[] = [
      { id: 1, bytes: 128, from: 0, to: 1 },
      { id: 2, bytes: 64, from: 1, to: 5, alias: { of: 1, offset: 64 } },
      { id: 3, bytes: 32, from: 2, to: 4, alias: { of: 2, offset: 32 } },
      { id: 4, bytes: 128, from: 3, to: 3 },
    ];
    const plan = planMemory(intervals);
    expect(plan.offsets.get(2)).toBe(plan.offsets.get(1)! + 64);
    expect(plan.offsets.get(3)).toBe(plan.offsets.get(1)! + 96);
    expect(clashes(intervals.filter((t) => !t.alias).map((t) => (t.id === 1 ? { ...t, to: 5 } : t)), plan)).toEqual([]); // biome-ignore format: short
    expect(plan.arenaBytes).toBe(256);
  });
  it("does not write into a tensor that an alias still reads", () => {
    const intervals: Interval[] = [
      { id: 1, bytes: 64, from: 0, to: 1 },
      { id: 2, bytes: 64, from: 1, to: 3, alias: { of: 1, offset: 0 } },
      { id: 3, bytes: 64, from: 1, to: 2, mayReuse: [1] },
    ];
    const plan = planMemory(intervals);
    expect(plan.offsets.get(3)).not.toBe(plan.offsets.get(1));
  });
  it("refuses aliases of nothing, of themselves, and beyond the end", () => {
    expect(() => planMemory([{ id: 1, bytes: 1, from: 0, to: 0, alias: { of: 9, offset: 0 } }])).toThrow("not there");
    expect(() => planMemory([{ id: 1, bytes: 1, from: 0, to: 0, alias: { of: 1, offset: 0 } }])).toThrow("alias of itself");
    const beyond: Interval[] = [
      { id: 1, bytes: 64, from: 0, to: 0 },
      { id: 2, bytes: 64, from: 0, to: 0, alias: { of: 1, offset: 32 } },
    ];
    expect(() => planMemory(beyond)).toThrow("leaves tensor 1");
  });
  it("gives the same plan every time", () => {
    const intervals = list(Array.from({ length: 50 }, (_, i) => [(i * 7) % 23, (i * 5) % 6, ((i * 37) % 11) * 64]));
    expect([...planMemory(intervals).offsets]).toEqual([...planMemory(intervals.toReversed()).offsets].reverse());
  });
});
