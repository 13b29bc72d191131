// Pages multiply sparse weights as dense ones: nothing is predicted there, and nothing measured.
import { USUAL_MEETING } from "./sharers.ts";

type Rates = typeof import("./sparse_rates.ts");

const NONE = { nonzero: 0, vector: 0, visit: 0, channel: 0, once: 0, wait: 0 };
const UNREAD = { cached: 1, streamed: 1 };

export const ratesOf: Rates["ratesOf"] = () => ({
  dense: { element: 0, result: 0, once: 0, wait: 0 },
  sparse: NONE,
  beside: NONE,
  broad: { nonzero: 0, row: 0 },
  code: { vector: 0, channel: 0, fetched: 0, again: 0 },
  vector: { dense: UNREAD, sparse: UNREAD, step: 0, meeting: USUAL_MEETING },
});

export const learnSparseRates: Rates["learnSparseRates"] = async () => {};
