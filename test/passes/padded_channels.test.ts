// Channels in multiples of 8: the same bits, one pad at the start and one cut at the end, and only where it pays.
import { expect, test } from "vitest";
import { topologicalOrder, type Value } from "../../src/ir/graph.ts";
import { isLibraryKernel, type LibraryConv } from "../../src/ir/library_kernel.ts";
import { elementCount, fromNumbers } from "../../src/ir/tensor.ts";
import { evaluateGraph } from "../../src/ops/index.ts";
import { inputName } from "../../src/ops/source.ts";
import { mixedPrecision } from "../../src/passes/mixed_precision.ts";
import { paddedChannels } from "../../src/passes/padded_channels.ts";
import { gpuBackend } from "../../src/run/gpu/backend.ts";
import { scheduleGraph } from "../../src/run/schedule.ts";
import { H200 } from "../kernels/simt_machine.ts";
import { randomNumbers } from "../run/devices.ts";
import { f32, graphOf, op, weights } from "./support.ts";

const conv = (x: Value, filters: number, seed: number, size = 3) =>
  op("Conv", [x, weights(seed, filters, x.type.shape[1], size, size), weights(seed + 1, filters)], { pads: Array(4).fill((size - 1) / 2) });
/** As it is, and with the pass. */
function both(y: Value) {
  const before = mixedPrecision("bf16").run(graphOf(y));
  return { before, after: paddedChannels(() => true).run(before) };
}
function expectSame(y: Value): string[] {
  const { before, after } = both(y);
  const values = Object.fromEntries(before.inputs.map((v) => [inputName(v), fromNumbers("f32", v.type.shape, randomNumbers(5, elementCount(v.type.shape)))])); // biome-ignore format: one idea
  const [want, got] = [before, after].map((graph) => Object.values(evaluateGraph(graph, values)));
  expect(got).toEqual(want);
  return topologicalOrder(after).filter(({ op: { kind } }) => kind !== "source").map((node) => `${node.op.name} ${node.outputs[0].type.shape.slice(0, 2)}`); // biome-ignore format: one idea
}
const x = f32("x", 2, 33, 6, 6);

test("a chain is padded at its start and cut at its end", () => {
  const steps = expectSame(conv(op("Sigmoid", [op("Mul", [conv(x, 35, 1), weights(9, 35, 1, 1)])]), 37, 3));
  expect(steps.filter((s) => s.startsWith("Pad 2"))).toEqual(["Pad 2,40"]);
  expect(steps.filter((s) => s.startsWith("Slice"))).toEqual(["Slice 2,37"]);
  expect(steps.filter((s) => s.startsWith("Sigmoid"))).toEqual(["Sigmoid 2,40"]);
});

test("what would be no number beside zeros is cut before", () => {
  const steps = expectSame(conv(op("Log", [op("Exp", [op("Reciprocal", [conv(x, 35, 1)])])]), 8, 3));
  expect(steps.filter((s) => s.startsWith("Reciprocal"))).toEqual(["Reciprocal 2,35"]);
});

test("two branches, and channels that something else reads", () => {
  const a = conv(x, 35, 1);
  const steps = expectSame(op("Concat", [op("Add", [op("Relu", [a]), conv(x, 35, 5)]), op("Softmax", [a], { axis: 1 })], { axis: 1 }));
  expect(steps.filter((s) => s.startsWith("Relu"))).toEqual(["Relu 2,40"]);
});

/** Sizes of a library's convolutions, of 64 images of 28×28. */
function libraryConvs(...channels: readonly number[]): string[] {
  let y: Value = f32("x", 64, channels[0], 28, 28);
  for (const [i, filters] of channels.slice(1).entries()) y = op("Relu", [conv(y, filters, 2 * i + 1)]);
  const target = { ...H200, hasGemm: true, hasConvolutions: true };
  const { steps } = scheduleGraph(graphOf(y), gpuBackend(target, 256, "bf16"), { precision: "bf16", storesNarrow: true });
  const kernels = steps
    .flatMap(({ calls }) => calls ?? [])
    .flatMap(({ kernel }) => (isLibraryKernel(kernel) ? [kernel as LibraryConv] : []));
  return kernels.map(({ inChannels, outChannels }) => `${inChannels} to ${outChannels}`);
}

test("libraries get multiples of 8 where that saves more than moving costs", () => {
  expect(libraryConvs(99, 99, 99)).toEqual(["104 to 104", "104 to 104"]); // 35 µs each instead of 493
  expect(libraryConvs(104, 104)).toEqual(["104 to 104"]);
  expect(libraryConvs(36, 36)).toEqual(["36 to 36"]); // saves 8 µs, costs 9
});
