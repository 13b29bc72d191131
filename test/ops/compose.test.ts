// Composing the readers of several operators gives the same values as running them one after the other, and never leaves a buffer.
import fc from "fast-check";
import { expect, it } from "vitest";
import type { Expr } from "../../src/ir/expr.ts";
import { interpret, loadReader } from "../../src/ir/expr_interpreter.ts";
import { type Attrs, apply, type Reader } from "../../src/ir/graph.ts";
import { elementCount, fromNumbers, type TensorData, toNumbers } from "../../src/ir/tensor.ts";
import { evaluateNode, OPS } from "../../src/ops/index.ts";
import { constantValue, input } from "../../src/ops/source.ts";

const ints = (values: number[]) => fromNumbers("i64", [values.length], values);

interface Step {
  readonly name: string;
  readonly constants: readonly (TensorData | null)[];
  readonly attrs?: Attrs;
}

/** One operator that can be applied to `shape`, chosen by a few random numbers. */
function stepFor(shape: readonly number[], choice: number, [a, b]: readonly [number, number]): Step {
  const axis = a % shape.length;
  const rank = shape.length;
  const zeros = shape.map(() => 0);
  const steps: Step[] = [
    { name: "Neg", constants: [] },
    { name: "Reshape", constants: [ints([-1, shape[rank - 1]])] },
    { name: "Reshape", constants: [ints([shape[0], -1, 1])] },
    { name: "Reshape", constants: [ints([elementCount(shape)])] },
    { name: "Transpose", constants: [], attrs: { perm: shape.map((_, i) => (i + axis) % rank) } },
    { name: "Slice", constants: [ints([-1]), ints([-1000]), ints([axis]), ints([-1 - (b % 3)])] },
    { name: "Slice", constants: [ints([b % shape[axis]]), ints([1000]), ints([axis]), ints([1 + (b % 2)])] },
    { name: "Pad", constants: [ints([...zeros.with(axis, b % 3), ...zeros.with(rank - 1, 1)])] },
    { name: "Pad", constants: [ints([...zeros.with(axis, 2), ...zeros.with(axis, b % 7)])], attrs: { mode: "reflect" } },
    { name: "Pad", constants: [ints([...zeros.with(axis, 1), ...zeros.with(axis, b % 5)])], attrs: { mode: "wrap" } },
    { name: "Tile", constants: [ints(shape.map((_, i) => (i === axis ? 2 : 1)))] },
    { name: "Resize", constants: [null, null, ints(shape.map((d, i) => (i === axis ? 1 + (b % (2 * d)) : d)))] },
    { name: "Resize", constants: [null, null, ints(shape.map((d, i) => (i === axis ? d + (b % 3) : d)))], attrs: { mode: "linear" } },
    { name: "ReduceMax", constants: [ints([axis])] },
    { name: "Gather", constants: [ints([b % shape[axis], -1, 0])], attrs: { axis } },
  ];
  return steps[choice % steps.length];
}

const readsOf = (e: unknown, found: Extract<Expr, { k: "load" }>[] = [], seen = new Set<unknown>()) => {
  if (typeof e !== "object" || e === null || seen.has(e)) return found;
  seen.add(e);
  if ("k" in e && e.k === "load") found.push(e as Extract<Expr, { k: "load" }>); // k tells which member it is
  for (const child of Object.values(e)) readsOf(child, found, seen);
  return found;
};

it("fused reading equals step by step", () => {
  const choices = fc.array(fc.tuple(fc.nat(1000), fc.tuple(fc.nat(1000), fc.nat(1000))), { minLength: 1, maxLength: 4 });
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 1, max: 5 }), { minLength: 1, maxLength: 3 }), choices, (start, picks) => {
      const first = fromNumbers(
        "f32",
        start,
        Array.from({ length: elementCount(start) }, (_, i) => i + 1),
      );
      let stepped: TensorData = first;
      let fused: Reader = loadReader(first, 0);
      const buffers: TensorData[] = [first];
      for (const [choice, numbers] of picks) {
        const { name, constants, attrs } = stepFor(stepped.shape, choice, numbers);
        const type = { dtype: stepped.dtype, shape: stepped.shape };
        const constant = constants.map((c) => c && constantValue(c));
        const { node } = apply(OPS.get(name)!, [input("x", type), ...constant], attrs)[0];
        [stepped] = evaluateNode(node, [stepped, ...constants]);
        [fused] = node.op.lower!([fused, ...constants.map((c) => c && loadReader(c, buffers.push(c) - 1))], node);
        if (elementCount(stepped.shape) === 0 || elementCount(stepped.shape) > 5000) break;
      }
      const seen: Expr[] = [];
      const watched: Reader = {
        type: fused.type,
        at(index) {
          const e = fused.at(index);
          seen.push(e);
          return e;
        },
      };
      const together = interpret(watched, buffers);
      const expected = toNumbers(stepped);
      toNumbers(together).forEach((v, i) => {
        if (Math.abs(v - expected[i]) > 1e-5 * (1 + Math.abs(v))) expect(v).toBe(expected[i]); // linear steps round to float32 in between
      });
      expect(together.shape).toEqual(stepped.shape);
      for (const load of seen.flatMap((e) => readsOf(e))) {
        expect(load.at.lo).toBeGreaterThanOrEqual(0);
        expect(load.at.hi).toBeLessThan(buffers[load.input].data.length);
      }
    }),
    { numRuns: 300, seed: 20240607 },
  );
});
