// Products and sums with constants around a convolution or matrix product become part of its weights and bias.
import { isFloat } from "../ir/dtype.ts";
import { type Graph, type Node, type Pass, rewriteGraph } from "../ir/graph.ts";
import { type Affine, affineStep, compose, identityAffine } from "./affine.ts";
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
  let affine = identityAffine(linear.outChannels);
  let [value] = linear.node.outputs;
  const steps: [Node, number][] = [];
  let isSum = true; // so far
  for (let user = uses.onlyUser(value); user; user = uses.onlyUser(value)) {
    const found = affineStep(user, linear.outAxis);
    if (found?.x !== value) break;
    affine = compose(found.step, affine);
    isSum &&= found.step.scale.every((s) => s === 1);
    steps.push([user, found.side]);
    [value] = user.outputs;
  }
  // Without a bias, one sum would only become a sum again.
  if (!linear.hasBias && isSum && steps.length < 2) return identityAffine(linear.outChannels);
  for (const [node, side] of steps) absorbed.set(node, side);
  return affine;
}

/** What happens to the data input before, as long as it is affine and nothing else reads it. */
function collectBefore(linear: Linear, uses: Uses, absorbed: Absorbed): Affine {
  let affine = identityAffine(linear.inChannels);
  let value = linear.node.inputs[0]!;
  while (uses.onlyUser(value) && !absorbed.has(value.node)) {
    const found = affineStep(value.node, linear.inAxis);
    if (!found || (!linear.seesAll && found.step.shift.some((v) => v !== 0))) break;
    affine = compose(affine, found.step);
    absorbed.set(value.node, found.side);
    value = found.x;
  }
  return affine;
}

const isIdentity = ({ scale, shift }: Affine): boolean => scale.every((v) => v === 1) && shift.every((v) => v === 0);

export const normalizationFolding: Pass = {
  name: "normalization folding",
  run(graph: Graph): Graph {
    const uses = usesOf(graph);
    const absorbed: Absorbed = new Map();
    const isCandidate = (node: Node) => node.op.kind === "contract" && isFloat(node.outputs[0].type.dtype);
    const linears = uses.order.flatMap((node) => (isCandidate(node) ? (linearOf(node) ?? []) : []));
    // A step between two linear nodes belongs to the first, where padding does not matter.
    const afters = linears.map((linear) => collectAfter(linear, uses, absorbed));
    const plans = new Map<Node, Plan>();
    for (const [i, linear] of linears.entries()) {
      const plan = { linear, after: afters[i], before: collectBefore(linear, uses, absorbed) };
      if (!isIdentity(plan.before) || !isIdentity(plan.after)) plans.set(linear.node, plan);
    }
    return rewriteGraph(graph, (node, inputs) => {
      const side = absorbed.get(node);
      if (side !== undefined) return [inputs[side]!];
      const plan = plans.get(node);
      return plan ? [foldedLinear(plan.linear, inputs[0]!, plan.before, plan.after)] : null;
    });
  },
};
