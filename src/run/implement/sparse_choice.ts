// What layers with sparse weights share when kernels are chosen for them: the mode, the record of choices, values in the order of a kernel.
import type { Csb } from "../../sparse/csb.ts";
import { type AnchorTask, type Place, packedPlace, type SparseChoice } from "../step.ts";
import { type SparseMode, USUAL_RATES } from "./sparse_cost.ts";
import type { Machine } from "./sparse_forecast.ts";

export const modeOf = (task: AnchorTask): SparseMode => task.sparse?.mode ?? "auto";

/** Whether a sparse kernel is taken that could pay, by what it is predicted to take. */
export const isWanted = (task: AnchorTask, doesPay: boolean): boolean => task.sparse?.isEager === true || doesPay;

/** What predictions are made for. */
export const machineOf = ({ target, threads, sparse }: AnchorTask): Machine => ({
  target,
  threads,
  rates: sparse?.rates ?? USUAL_RATES[target.name],
});

export const note = (task: AnchorTask, choice: Omit<SparseChoice, "node">): void => {
  task.sparse?.choices.push({ node: task.output.node, ...choice });
};

/** Values in the kernel's order. */
export const orderedValues = (w: Csb, place: Int32Array): Place =>
  packedPlace((out) => {
    for (let i = 0; i < place.length; i++) if (place[i] >= 0) out[i] = w.values[place[i]];
  });
