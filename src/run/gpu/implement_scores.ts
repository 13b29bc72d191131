// Weights of attention, and their gradient, to kernels that hold a line in a subgroup's registers.
import { loadReader } from "../../ir/expr_interpreter.ts";
import { newVar, varIndex } from "../../ir/index_expr.ts";
import type { SimtKernel, SimtTarget } from "../../ir/simt.ts";
import { elementCount } from "../../ir/tensor.ts";
import { fitsScoreLines, type ScoreLines, scoreWeightsGradKernel, scoreWeightsKernel } from "../../kernels/simt/score_weights.ts";
import { scoreGeometry } from "../../ops/score_weights.ts";
import { valuePlace } from "../step.ts";
import type { GpuImplementation } from "./product_calls.ts";

type Generate = (name: string, shape: ScoreLines, target: SimtTarget) => SimtKernel;

/** Null where more follows in the group. */
const implementScores =
  (what: string, generate: Generate): GpuImplementation =>
  ({ anchor, inputs, epilogueInputs, epilogue, name, output, target, shared }) => {
    const { dtype, shape } = anchor.outputs[0].type;
    const element =
      epilogueInputs.length === 0 && epilogue.compose([loadReader({ dtype, shape }, 0)]).at(shape.map((d) => varIndex(newVar(d))));
    const isBare = element && element.k === "load";
    if (!isBare || (dtype !== "f32" && dtype !== "f16" && dtype !== "bf16")) return null;
    const [queries, keys] = shape.slice(-2);
    const { isCausal, scale } = scoreGeometry(anchor);
    const lines: ScoreLines = { dtype, lines: elementCount(shape.slice(0, -1)), queries, keys, isCausal, scale };
    if (!fitsScoreLines(lines, target)) return null;
    const kernel = shared(`${what} ${JSON.stringify(lines)}`, name, (n) => generate(n, lines, target));
    return [{ kernel, places: [...inputs.map((v) => v!), output].map(valuePlace) }]; // inputs are never absent
  };

export const implementScoreWeights = implementScores("ScoreWeights", scoreWeightsKernel);
export const implementScoreWeightsGrad = implementScores("ScoreWeightsGrad", scoreWeightsGradKernel);
