// Compiles a reader or a group for one target, runs it between guard pages, and compares the result with the interpreter's.
import { expect } from "vitest";
import { lowerAddresses } from "../../src/codegen/addresses.ts";
import { DTYPES, isFloat } from "../../src/ir/dtype.ts";
import { interpret } from "../../src/ir/expr_interpreter.ts";
import type { Reader, TensorType } from "../../src/ir/graph.ts";
import type { Kernel, SimdTarget } from "../../src/ir/kernel.ts";
import { elementCount, fromNumbers, type TensorData, toNumbers, zeros } from "../../src/ir/tensor.ts";
import { lowerReaders } from "../../src/lower/group.ts";
import { runLowered } from "../codegen/simd_run.ts";

/** Deterministic numbers in [0, 1). */
export function random(seed: number): () => number {
  let s = seed >>> 0 || 1;
  return () => {
    s ^= s << 13;
    s >>>= 0;
    s ^= s >>> 17;
    s ^= s << 5;
    s >>>= 0;
    return s / 2 ** 32;
  };
}

export function randomTensor(type: TensorType, next: () => number, [lo, hi]: readonly [number, number] = [-2, 2]): TensorData {
  const { dtype, shape } = type;
  const whole = !isFloat(dtype);
  const values = Array.from({ length: elementCount(shape) }, () => {
    if (dtype === "bool") return next() < 0.5 ? 1 : 0;
    const x = lo + (hi - lo) * next();
    return whole ? Math.max(DTYPES[dtype].kind === "uint" ? 0 : -100, Math.round(x * 3)) : x;
  });
  return fromNumbers(dtype, shape, values);
}

const bytesOf = (t: TensorData): Uint8Array => new Uint8Array(t.data.buffer, t.data.byteOffset, t.data.byteLength);

export function runKernelOn(kernel: Kernel, target: SimdTarget, inputs: readonly TensorData[], out: TensorData): TensorData {
  runLowered(target, lowerAddresses(kernel), [...inputs.map(bytesOf), bytesOf(out)], kernel.threads);
  return out;
}

export function runReader(reader: Reader, inputs: readonly TensorData[], target: SimdTarget, threads: number): TensorData {
  const kernel = lowerReaders(
    "test",
    [reader],
    inputs.map((t) => t.data.byteLength),
    target,
    threads,
  );
  return runKernelOn(kernel, target, inputs, zeros(reader.type.dtype, reader.type.shape));
}

/** Float results may differ by the rounding of intermediate values and of vector functions; half floats by their last place. */
export function expectClose(got: TensorData, wanted: TensorData, tolerance: number, label: string): void {
  const [a, b] = [toNumbers(got), toNumbers(wanted)];
  const last = got.dtype === "f16" ? 2 ** -10 : got.dtype === "bf16" ? 2 ** -7 : 0;
  const relative = isFloat(got.dtype) ? tolerance + last : 0;
  for (let i = 0; i < a.length; i++) {
    if (a[i] === b[i] || (Number.isNaN(a[i]) && Number.isNaN(b[i]))) continue;
    if (!(Math.abs(a[i] - b[i]) <= relative * (1 + Math.abs(b[i])))) {
      expect.fail(`${label}: element ${i} of [${got.shape}] is ${a[i]}, wanted ${b[i]}`);
    }
  }
}

/** Runs the reader on a target and compares with the interpreter. */
export function checkReader(
  reader: Reader,
  inputs: readonly TensorData[],
  target: SimdTarget,
  threads: number,
  tolerance: number,
  label: string,
): void {
  expectClose(
    runReader(reader, inputs, target, threads),
    interpret(reader, inputs),
    tolerance,
    `${label}, ${target.name}, ${threads} threads`,
  );
}
