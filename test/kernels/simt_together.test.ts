// Launches of one kernel on different tensors in one, run in JavaScript: steps of parameters and sums of their gradients, and what must stay apart.
import { expect, test } from "vitest";
import { printCuda } from "../../src/codegen/cuda/index.ts";
import { apply, type Graph, type Value } from "../../src/ir/graph.ts";
import type { GpuKernel } from "../../src/ir/library_kernel.ts";
import type { SimtKernel } from "../../src/ir/simt.ts";
import { elementCount, fromNumbers, toNumbers } from "../../src/ir/tensor.ts";
import { evaluateGraph, OPS } from "../../src/ops/index.ts";
import { constantValue, input, inputName } from "../../src/ops/source.ts";
import { intsValue } from "../../src/passes/view_algebra.ts";
import { gpuBackend } from "../../src/run/gpu/backend.ts";
import { type Schedule, scheduleGraph } from "../../src/run/schedule.ts";
import type { StateSpec } from "../../src/run/state.ts";
import { randomNumbers } from "../run/devices.ts";
import { runSchedule, H200 as target } from "./simt_machine.ts";

const op = (name: string, inputs: readonly Value[], attrs = {}): Value => apply(OPS.get(name)!, inputs, attrs, name)[0]; // the test names operators that exist
const number = (x: number): Value => constantValue(fromNumbers("f32", [], [x]), "number");
const matrix = (name: string, ...shape: number[]): Value => input(name, { dtype: "f32", shape });
const setsOf = ({ steps }: Schedule<GpuKernel>): number[] =>
  steps.flatMap((s) => (s.calls ?? []).map(({ kernel }) => (kernel as SimtKernel).sets ?? 1));

function scheduled(graph: Graph, state: readonly StateSpec[] = [], own = target): Schedule<GpuKernel> {
  return scheduleGraph(graph, gpuBackend(own, 256), { state });
}

/** The graph's outputs as its kernels compute them, in place where states are, and by the reference. */
function expectRight(graph: Graph, schedule: Schedule<GpuKernel>): void {
  const data = Object.fromEntries(
    graph.inputs.map((v, i) => [inputName(v), fromNumbers("f32", v.type.shape, randomNumbers(i + 1, elementCount(v.type.shape)))]),
  );
  const want = evaluateGraph(graph, data);
  const memories = new Map(schedule.states.flatMap(({ input: from, values }) => values.map((v) => [v, from] as const)));
  const given = graph.inputs.map((v) => [v, Float64Array.from(toNumbers(data[inputName(v)]))] as const);
  const owners = new Map([...schedule.owners, ...memories]);
  const got = runSchedule({ ...schedule, owners }, new Map(given));
  for (const { name, value } of schedule.graph.outputs) {
    const own = schedule.owners.get(value) ?? value;
    const found = got.get(memories.get(own) ?? own)!;
    for (const [i, x] of toNumbers(want[name]).entries())
      expect(Math.abs(found[i] - x), name).toBeLessThan(1e-5 * Math.max(1, Math.abs(x)));
  }
}

const COUNT = 5;
const all = <T>(make: (i: number) => T): T[] => Array.from({ length: COUNT }, (_, i) => make(i));

const LAYERS = 3;
/** A chain of layers, whose last gives the sums that each parameter, a state, is moved by. */
function learning(): { graph: Graph; state: StateSpec[] } {
  const x = matrix("x", 4096, 8);
  const weights = all((i) => matrix(`w${i}`, 8)).slice(0, LAYERS);
  let layer = x;
  const next = weights.map((w) => {
    layer = op("Softmax", [op("Mul", [layer, w])], { axis: 1 });
    const grad = op("ReduceSum", [layer, intsValue([0], "axes")], { keepdims: 0 });
    return op("Sub", [w, op("Mul", [grad, number(0.1)])]);
  });
  const outputs = next.map((value, i) => ({ name: `next${i}`, value }));
  return {
    graph: { inputs: [x, ...weights], outputs: [...outputs, { name: "y", value: layer }] },
    state: next.map((_, i) => ({ input: `w${i}`, output: `next${i}` })),
  };
}

test("sums of a step's gradients stay where they are, what moves the parameters by them is one launch", () => {
  const { graph, state } = learning();
  const apart = scheduled(graph, state, { ...target, hasSets: false });
  const schedule = scheduled(graph, state);
  expect(setsOf(apart).every((n) => n === 1)).toBe(true);
  expect(Math.max(...setsOf(schedule))).toBe(LAYERS);
  expect(setsOf(schedule).length).toBeLessThanOrEqual(setsOf(apart).length - LAYERS + 1);
  expect(schedule.arenaBytes).toBeLessThan(1.2 * apart.arenaBytes); // not what is summed, but parts of the sums wait
  expectRight(graph, schedule);
});

test("CUDA C of such a kernel takes a table of addresses", () => {
  const { graph, state } = learning();
  const kernels = scheduled(graph, state).steps.flatMap((s) => (s.calls ?? []).map(({ kernel }) => kernel as SimtKernel));
  const joint = kernels.find((k) => k.sets === LAYERS)!; // as the test before has seen
  const buffers = joint.params.length / LAYERS;
  const text = printCuda([joint], { isOverlapped: true });
  expect(text).toContain(`struct ${joint.name}_sets { void* of[${LAYERS}][${buffers}]; };`);
  expect(text).toContain(`const __grid_constant__ ${joint.name}_sets sets) {`);
  expect(text).toMatch(new RegExp(`float\\* const b${buffers - 1} = \\(float\\*\\)sets\\.of\\[blockIdx\\.z\\]\\[${buffers - 1}\\];`));
  expect(joint.grid[2]).toBe(LAYERS);
});

test("what needs another's result, or its old value, stays apart", () => {
  const x = matrix("x", 4, 300);
  const chain = all(() => 0).reduce<Value>((v) => op("Softmax", [v], { axis: 1 }), x);
  const states = all((i) => matrix(`s${i}`, 3000));
  const shifted = states.map((s, i) => op("Add", [s, states[(i + 1) % COUNT]]));
  const graph = {
    inputs: [x, ...states],
    outputs: [...shifted.map((value, i) => ({ name: `n${i}`, value })), { name: "y", value: chain }],
  };
  const state = all((i) => ({ input: `s${i}`, output: `n${i}` }));
  const schedule = scheduled(graph, state);
  expect(setsOf(schedule).every((n) => n === 1)).toBe(true);
  expect(setsOf(schedule).length).toBeGreaterThanOrEqual(2 * COUNT);
  expectRight(graph, schedule);
});

test("branches on one input are one launch", () => {
  const x = matrix("x", 6, 500);
  const branches = all((i) => op("Softmax", [op("Mul", [x, matrix(`w${i}`, 500)])], { axis: 1 }));
  const inputs = [x, ...branches.map((b) => b.node.inputs[0]!.node.inputs[1]!)]; // as they are made
  const outputs = branches.map((value, i) => ({ name: `y${i}`, value }));
  const schedule = scheduled({ inputs, outputs });
  expect(setsOf(schedule)).toEqual([COUNT, COUNT]);
  expectRight({ inputs, outputs }, schedule);
});

test("nothing waits that would take much memory until then, but two at the end", () => {
  let x = matrix("x", 64, 16384);
  const inputs = [x];
  const most = all(() => {
    x = op("CumSum", [x, constantValue(fromNumbers("i32", [], [1]), "axis")]);
    return op("ReduceMax", [x, intsValue([0], "axes")], { keepdims: 0 });
  });
  const outputs = [...most, x].map((value, i) => ({ name: `y${i}`, value }));
  expect(Math.max(...setsOf(scheduled({ inputs, outputs })))).toBe(2);
});
