// What a loss reads of its logits: one element of each line, the same as all of them by a mask.
import { expect, test } from "vitest";
import type { Value } from "../../src/ir/graph.ts";
import { fromNumbers, type TensorData, toNumbers } from "../../src/ir/tensor.ts";
import { evaluateGraph } from "../../src/ops/index.ts";
import { constantValue, input } from "../../src/ops/source.ts";
import { pickedClasses } from "../../src/passes/picked_classes.ts";
import { f32, graphOf, ints, op, scalar, show } from "./support.ts";

const [LINES, CLASSES] = [6, 5];
const target = input("t", { dtype: "i32", shape: [LINES, 1] });
const number = (value: number): Value => constantValue(fromNumbers("i32", [], [value]));
const range = (count: number, start = 0): Value => op("Range", [number(start), number(start + count), number(1)]);
const counted = constantValue(fromNumbers("i32", [CLASSES], [0, 1, 2, 3, 4]));
const chosen = (classes: Value, otherwise = 0): Value =>
  op("ReduceSum", [op("Where", [op("Equal", [target, classes]), f32("x", LINES, CLASSES), scalar(otherwise)]), ints(1)], { keepdims: 0 });

const given: Readonly<Record<string, TensorData>> = {
  x: fromNumbers(
    "f32",
    [LINES, CLASSES],
    Array.from({ length: LINES * CLASSES }, (_, i) => Math.cos(i)),
  ),
  t: fromNumbers("i32", [LINES, 1], [4, 0, -1, 5, -100, 2]),
};

test("the target's element is read, nothing where the target is no class", () => {
  for (const classes of [counted, range(CLASSES)]) {
    const before = graphOf(chosen(classes));
    const after = pickedClasses.run(before);
    expect(show(after).join()).toContain("GatherElements");
    expect(show(after).join()).not.toContain("ReduceSum");
    const [own, picked] = [before, after].map((graph) => toNumbers(evaluateGraph(graph, given)[graph.outputs[0].name]));
    expect([...picked]).toEqual([...own]);
    expect([...picked].filter((v) => v === 0)).toHaveLength(3);
  }
});

test("other numbers than 0, 1, … and another filling stay", () => {
  for (const y of [chosen(range(CLASSES, 1)), chosen(counted, 1)])
    expect(show(pickedClasses.run(graphOf(y))).join()).not.toContain("GatherElements");
});
