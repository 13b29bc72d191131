// What products with sparse weights usually take: a page keeps no measurements between visits.
import { USUAL_RATES } from "./implement/sparse_cost.ts";

export const sparseRates: typeof import("./sparse_rates.ts").sparseRates = ({ target }) => USUAL_RATES[target.name];

export const learnSparseRates: typeof import("./sparse_rates.ts").learnSparseRates = async () => {};
