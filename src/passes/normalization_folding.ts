// Products and sums with constants around a convolution or matrix product become part of its weights and bias.
import { isFloat } from "../ir/dtype.ts";
import { type Graph, type Node, type Pass, rewriteInPieces } from "../ir/graph.ts";
import { atOnce, type Pieces } from "../ir/pieces.ts";
import { type Affine, type AffineStep, affineStep, firstStep, IDENTITY, thenStep } from "./affine.ts";
import { foldedLinear, type Linear, linearOf } from "./linear.ts";
import { type Uses, usesOf } from "./uses.ts";

/** What is folded into one linear node. */
interface Plan {
  readonly linear: Linear;
  readonly before: Affine;
  readonly after: Affine;
}

/** Folded nodes: the number of the input that takes their place. */
type Absorbed = Map<Node, number>;

/** What the only readers of the output do to it, as long as they are affine. */
function collectAfter(linear: Linear, uses: Uses, absorbed: Absorbed): Affine {
  const steps = new Map<Node, AffineStep>();
  let [value] = linear.node.outputs;
  for (let user = uses.onlyUser(value); user; user = uses.onlyUser(value)) {
    const step = affineStep(user, linear.outAxis);
    if (step?.x !== value) break;
    steps.set(user, step);
    [value] = user.outputs;
  }
  // Without a bias, one sum would only become a sum again.
  if (steps.size === 0 || (!linear.hasBias && steps.size === 1 && [...steps.values()][0].kind === "add")) return IDENTITY;
  let affine = IDENTITY;
  for (const [node, step] of steps) {
    affine = thenStep(affine, step);
    absorbed.set(node, step.side);
  }
  return affine;
}

/** What happens to the data input before, as long as it is affine and nothing else reads it. */
function collectBefore(linear: Linear, uses: Uses, absorbed: Absorbed): Affine {
  let affine = IDENTITY;
  let value = linear.node.inputs[0]!;
  while (uses.onlyUser(value) && !absorbed.has(value.node)) {
    const step = affineStep(value.node, linear.inAxis);
    const isHarmless = step && (linear.seesAll || step.kind === "mul" || step.c.every((v) => v === 0));
    if (!isHarmless) break;
    affine = firstStep(affine, step);
    absorbed.set(value.node, step.side);
    value = step.x;
  }
  return affine;
}

export const normalizationFolding: Pass = {
  name: "normalization folding",
  run: (graph) => atOnce(inPieces(graph)),
  pieces: inPieces,
};

function* inPieces(graph: Graph): Pieces<Graph> {
  const uses = usesOf(graph);
  const absorbed: Absorbed = new Map();
  const isCandidate = (node: Node) => node.op.kind === "contract" && isFloat(node.outputs[0].type.dtype);
  const linears = uses.order.flatMap((node) => (isCandidate(node) ? (linearOf(node) ?? []) : []));
  // A step between two linear nodes belongs to the first, where padding does not matter.
  const afters = linears.map((linear) => collectAfter(linear, uses, absorbed));
  const plans = new Map<Node, Plan>();
  for (const [i, linear] of linears.entries()) {
    const plan = { linear, after: afters[i], before: collectBefore(linear, uses, absorbed) };
    if (plan.before !== IDENTITY || plan.after !== IDENTITY) plans.set(linear.node, plan);
  }
  return yield* rewriteInPieces(graph, (node, inputs) => {
    const side = absorbed.get(node);
    if (side !== undefined) return [inputs[side]!];
    const plan = plans.get(node);
    return plan ? [foldedLinear(plan.linear, inputs[0]!, plan.before, plan.after)] : null;
  });
}
