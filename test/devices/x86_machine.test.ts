// Facts about the machine: what the system's files mean, and that this machine's facts hang together.
import { expect, test } from "vitest";
import { machineFacts, parseCpuList, parseQuota, parseSize, physicalCores } from "../../src/devices/machine.ts";

test.each([
  ["0-3,8\n", [0, 1, 2, 3, 8]],
  ["5", [5]],
  ["", []],
])("CPU list %j", (text, cpus) => expect(parseCpuList(text)).toEqual(cpus));

test.each([
  ["48K\n", 49_152],
  ["2M", 2_097_152],
  ["512", 512],
  ["", 0],
])("size %j", (text, bytes) => expect(parseSize(text)).toBe(bytes));

test.each([
  ["150000 100000\n", "", "", 1.5],
  ["max 100000\n", "", "", Number.POSITIVE_INFINITY],
  ["", "400000\n", "100000\n", 4],
  ["", "-1\n", "100000\n", Number.POSITIVE_INFINITY],
  ["", "", "", Number.POSITIVE_INFINITY],
])("quota %j %j %j", (max, quota, period, cores) => expect(parseQuota(max, quota, period)).toBe(cores));

test("this machine", () => {
  const facts = machineFacts();
  expect(machineFacts()).toBe(facts);
  expect(facts.allowedCpus.length).toBeGreaterThan(0);
  expect(new Set(facts.allowedCpus).size).toBe(facts.allowedCpus.length);
  expect(facts.physicalCores).toBeLessThanOrEqual(facts.logicalCores);
  expect(physicalCores()).toBeGreaterThanOrEqual(1);
  expect(physicalCores()).toBeLessThanOrEqual(facts.allowedCpus.length);
  expect(facts.l1).toBeGreaterThanOrEqual(8 << 10);
  expect(facts.l2).toBeGreaterThan(facts.l1);
});
