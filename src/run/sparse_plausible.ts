// Whether rates are such as a processor can have: what was measured while something else ran may not be.
import type { SimdTarget } from "../ir/kernel.ts";
import type { KernelRates } from "./implement/sparse_cost.ts";

type Bounds = readonly [least: number, most: number];

/** Nanoseconds of a vector's multiply-add in a dense product: two a cycle at 7 GHz; one in four cycles of an emulated one at 1 GHz. */
const MULTIPLY_ADD: Bounds = [1 / 14, 8];
/** Of a sparse nonzero and a vector in times of that: as fast as a dense element, and much slower. */
const NONZERO: Bounds = [0.5, 30];
/** Of code for a nonzero and a vector, its bytes (about ten) among it: as fast as a dense element, and as slow as code that comes from memory. */
const CODE: Bounds = [0.5, 300];
const CODE_BYTES = 10;
/** Bytes a nanosecond of one thread. */
const BANDWIDTH: Bounds = [0.3, 1000];
/** Of what caches give what memory gives: noise makes it look a little faster. */
const FROM_MEMORY = 1.3;
/** Nanoseconds of a step: four a cycle at 7 GHz. */
const STEP: Bounds = [1 / 28, 50];
/** Nanoseconds of a meeting of threads: hundreds of them, on several processors. */
const MEETING: Bounds = [0, 20_000];

const isWithin = (value: number, [least, most]: Bounds): boolean => value >= least && value <= most;

export function isPlausible({ dense, sparse, beside, code, vector }: KernelRates, { lanes }: SimdTarget): boolean {
  const multiplyAdd = dense.element * lanes;
  return (
    isWithin(multiplyAdd, MULTIPLY_ADD) &&
    [sparse, beside].every(({ nonzero, vector: each }) => isWithin((nonzero + each) / multiplyAdd, NONZERO)) &&
    isWithin((code.vector + CODE_BYTES * code.fetched) / multiplyAdd, CODE) &&
    [vector.dense, vector.sparse].every(
      ({ cached, streamed }) => isWithin(cached, BANDWIDTH) && isWithin(streamed, BANDWIDTH) && streamed <= FROM_MEMORY * cached,
    ) &&
    isWithin(vector.step, STEP) &&
    isWithin(vector.meeting, MEETING)
  );
}
