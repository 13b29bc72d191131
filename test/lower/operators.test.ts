// Every operator with an expression: its samples compiled for each target give what the interpreter gives.
import { describe, expect, test } from "vitest";
import { loadReader } from "../../src/ir/expr_interpreter.ts";
import { apply, type Op, type Reader, type Sample, type Value } from "../../src/ir/graph.ts";
import { newVar, varIndex } from "../../src/ir/index_expr.ts";
import type { TensorData } from "../../src/ir/tensor.ts";
import { canLower } from "../../src/lower/scalar.ts";
import { constantValue, input } from "../../src/ops/source.ts";
import { TARGETS } from "../codegen/simd_run.ts";
import { SAMPLED } from "../run/samples.ts";
import { checkReader, random, randomTensor } from "./run_group.ts";

const isData = (x: object): x is TensorData => "data" in x;

/** Readers of the sample's outputs over buffers, constants included, with random data. */
function prepare(op: Op, sample: Sample<object>, seed: number): { readers: readonly Reader[]; inputs: TensorData[] } {
  const next = random(seed);
  const inputs: TensorData[] = [];
  const readers: (Reader | null)[] = [];
  const values = sample.inputs.map((s, i): Value | null => {
    if (!s) {
      readers.push(null);
      return null;
    }
    const data = isData(s) ? s : randomTensor(s, next, sample.range);
    readers.push(loadReader({ dtype: data.dtype, shape: data.shape }, inputs.push(data) - 1));
    return isData(s) ? constantValue(s) : input(`x${i}`, s);
  });
  const { node } = apply(op, values, (sample.attrs ?? {}) as Record<string, never>)[0];
  return { readers: op.lower!(readers, node), inputs }; // only asked for operators that have it
}

const canLowerReader = ({ type, at }: Reader): boolean => canLower(at(type.shape.map((d) => varIndex(newVar(d)))));

/** Types that vector registers do not hold, and integer functions without vector code: the reference computes these samples. */
const gaps: string[] = [];
let covered = 0;

describe.each(SAMPLED.filter(([, op]) => op.lower))("%s", (name, op) => {
  test.each(op.samples!.map((s, i) => [i, s] as const))("sample %i", (i, sample) => {
    const { readers, inputs } = prepare(op, sample as Sample<object>, i + 1);
    for (const reader of readers) {
      if (!canLowerReader(reader)) {
        gaps.push(`${name} ${i}: ${reader.type.dtype}`);
        continue;
      }
      covered++;
      for (const target of TARGETS) for (const threads of [1, 2, 3]) checkReader(reader, inputs, target, threads, 2e-6, `${name} ${i}`);
    }
  });
});

test("few samples are left to the reference", () => {
  if (process.env.SHOW) console.log(covered, gaps.join("\n"));
  expect(covered).toBeGreaterThan(5 * gaps.length);
});
