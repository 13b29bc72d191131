// Layers whose predictions leave open which kind of kernel is faster: what was measured of them decides, and what was not is asked for.
import type { Node } from "../ir/graph.ts";
import { Group, groupAttrs } from "../ir/group.ts";
import { implement } from "./implement/index.ts";
import type { SparseRates, TriedLayer } from "./implement/sparse_cost.ts";
import type { KernelCall, SparseChoice, SparsePolicy, Step, TargetOptions } from "./step.ts";

/** Times as fast as dense ones sparse kernels are predicted to be where either may be faster: predictions are off by as much. */
const OPEN = { least: 0.65, most: 1.6 };
/** The most of networks that fill some caches: their dense weights, which rates say come from afar, are partly there. */
const MOST_BETWEEN = 4;
/** Of the dense kernel's measured time what a sparse one may take: trials are off by some percent. */
const TRIED_MARGIN = 0.97;

/** Milliseconds: less is not worth the time that compiling takes longer. */
const LEAST_MS = 0.002;

/** Whether a layer is tried, of a network that fills so many caches, or many. */
export const isOpen = ({ denseMs, sparseMs }: TriedLayer, { caches = 0 }: Pick<SparseRates, "caches">): boolean =>
  denseMs >= LEAST_MS && denseMs >= OPEN.least * sparseMs && denseMs <= (caches > 0 ? MOST_BETWEEN : OPEN.most) * sparseMs;

/** Whether the sparse kernel is taken by what was measured. */
export const doesWin = ({ denseMs, sparseMs }: TriedLayer): boolean => sparseMs <= TRIED_MARGIN * denseMs;

/** A node with the kernels that trials found to be faster, or that predictions say. */
export function implementTried(node: Node, name: string, options: TargetOptions): Step {
  const { sparse } = options;
  const at = sparse?.choices.length ?? 0;
  const step = implement(node, name, options);
  const choice = sparse?.choices[at];
  if (!sparse || !choice || sparse.mode !== "auto" || sparse.choices.length !== at + 1 || !isOpen(choice, sparse.rates)) return step;
  const other = implementOther(node, name, { ...options, sparse }, choice);
  if (!other.calls || !step.calls) return step;
  const [own, rival] = [
    { ...choice, calls: step.calls },
    { ...choice, ...other.choice, calls: other.calls },
  ];
  const [dense, best] = choice.isSparse ? [rival, own] : [own, rival];
  if (!best.isSparse) return step; // there is none
  const key = keyOf(node, best, sparse.rates);
  const tried = sparse.rates.tried?.[key];
  if (!tried) {
    sparse.doubts?.push({ key, choice: at, dense: dense.calls, sparse: best.calls });
    return step;
  }
  const { calls, ...won } = doesWin(tried) ? best : dense;
  sparse.choices[at] = { ...won, ...tried, isTried: true };
  return { node, calls };
}

interface Other {
  readonly calls: readonly KernelCall[] | null;
  readonly choice: Partial<SparseChoice>;
}

/** The dense kernel where a sparse one was chosen, the best sparse one where the dense was. */
function implementOther(
  node: Node,
  name: string,
  options: TargetOptions & { readonly sparse: SparsePolicy },
  { isSparse }: SparseChoice,
): Other {
  const { mode, rates } = options.sparse;
  const sparse: SparsePolicy = isSparse ? { mode: "never", rates, choices: [] } : { mode, rates, choices: [], isEager: true };
  const { calls } = implement(node, name, { ...options, sparse });
  return { calls, choice: isSparse ? { isSparse: false } : (sparse.choices[0] ?? {}) };
}

/** Operator, shape, density in percent, what the sparse kernel reads, and caches that the network fills. */
function keyOf(node: Node, { rows, depth, n, density, format = "csb" }: SparseChoice, { caches }: SparseRates): string {
  const { op } = node.op === Group ? (groupAttrs(node).anchor ?? node) : node;
  return `${op.name} ${rows}x${depth}x${n} ${Math.round(100 * density)}% ${format}${caches === undefined ? "" : ` in ${caches} caches`}`;
}
