// Taking turns, medians, and the texts that numbers become.
import { describe, expect, test } from "vitest";
import { interleave } from "../../src/cli/interleave.ts";
import { geometricMean, spreadOf } from "../../src/cli/statistics.ts";
import { clip, formatPairs, formatTable } from "../../src/cli/table.ts";
import { bytesText, countText, msText, short } from "../../src/cli/units.ts";

// A moment in which the machine does something else can use up all turns but the first.
test("engines take turns, each turn begins with a run that is not timed, and the order changes", { retry: 3 }, async () => {
  const log: string[] = [];
  const contender = (name: string) => ({
    async run() {
      log.push(name);
    },
  });
  const times = await interleave([contender("a"), contender("b")], { seconds: 0.02 });
  expect(times).toHaveLength(2);
  for (const own of times) expect(own.length).toBeGreaterThanOrEqual(3);
  const turns = log.slice(2).filter((name, i, all) => name !== all[i - 1]);
  expect(turns.slice(0, 3)).toEqual(["a", "b", "a"]); // b's second turn follows its first
  expect(log.length).toBeGreaterThan(times[0].length + times[1].length);
});

test("statistics", () => {
  expect(spreadOf([3, 1, 2])).toEqual({ median: 2, p10: 1.2, p90: 2.8 });
  expect(spreadOf([5])).toEqual({ median: 5, p10: 5, p90: 5 });
  expect(geometricMean([1, 4])).toBeCloseTo(2);
});

describe("texts", () => {
  test.each([
    [short(0), "0"],
    [short(0.12345), "0.123"],
    [short(12.345), "12.3"],
    [short(1234.5), "1235"],
    [short(-5), "-5.00"],
    [short(1e-7), "1.00e-7"],
    [short(Number.POSITIVE_INFINITY), "Infinity"],
    [bytesText(512), "512 B"],
    [bytesText(1536), "1.50 KiB"],
    [bytesText(5 << 20), "5.00 MiB"],
    [countText(1_234_567), "1.23 M"],
    [msText(0.0123), "12.3 µs"],
    [msText(12.3), "12.3 ms"],
    [msText(12_300), "12.3 s"],
  ])("%s", (got, wanted) => expect(got).toBe(wanted));
  test("tables align numbers right and words left, without trailing spaces", () => {
    expect(formatTable(["name", "ms"], [["a", "1"], ["longer", "22"]])).toBe("name    ms\n──────  ──\na        1\nlonger  22"); // biome-ignore format: one idea
    expect(formatPairs([["a", "1"], ["bcd", ""]])).toBe("a    1\nbcd"); // biome-ignore format: one idea
  });
  test("long names keep their ends", () => expect(clip("a/long/name", 6)).toBe("…/name"));
});
