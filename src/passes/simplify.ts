// Drops what changes nothing, and writes equal things in one way: all renaming of axes as Reshape, Split as Slices, reductions with their axes kept.
import { isFloat } from "../ir/dtype.ts";
import { apply, type Node, type Pass, type Value } from "../ir/graph.ts";
import { elementCount, fromNumbers, toNumber, toNumbers } from "../ir/tensor.ts";
import { OPS } from "../ops/index.ts";
import { constantOf, constantValue } from "../ops/source.ts";
import { numbersOf, type Rule, rulePass, sameShape } from "./match.ts";
import { intsValue, permOf, reshaped, transposed } from "./view_algebra.ts";

const typeOf = (node: Node) => node.outputs[0].type;

/** x, where it is what the node gives. */
const same = (node: Node, x: Value): readonly Value[] | null =>
  sameShape(x.type.shape, typeOf(node).shape) && x.type.dtype === typeOf(node).dtype ? [x] : null;

const asReshape: Rule = (node, [x]) => [reshaped(x!, typeOf(node).shape, node.from)];

/** Changes nothing unless the shape changes. */
const ifSameShape: Rule = (node, [x]) => same(node, x!);

/** `x op c` gives x when all numbers of c are `neutral`; either side where the operator commutes. */
const neutral =
  (number: number, commutes: boolean): Rule =>
  (node, inputs) => {
    for (const side of commutes ? [1, 0] : [1]) {
      const tensor = constantOf(inputs[side]);
      const size = tensor ? elementCount(tensor.shape) : 0;
      const mayBe = tensor && size <= 4096 && (size === 0 || toNumber(tensor, 0) === number);
      const isNeutral = mayBe && toNumbers(tensor).every((v) => v === number);
      const kept = isNeutral && inputs[1 - side] ? same(node, inputs[1 - side]!) : null;
      if (kept) return kept;
    }
    return null;
  };

/** Combines its inputs, of which there is only one. */
const ifOne: Rule = (_, inputs) => (inputs.length === 1 ? [inputs[0]!] : null);

const simplifyTranspose: Rule = (node, [x]) => {
  const result = transposed(x!, permOf(node.attrs, x!.type.shape.length), node.from);
  return isCopy(result, node, [x]) ? null : [result];
};

const simplifyReshape: Rule = (node, inputs) => {
  const { shape } = typeOf(node);
  const result = reshaped(inputs[0]!, shape, node.from);
  // The same node again, with its shape written out already: keep it.
  const isWritten = isCopy(result, node, inputs.slice(0, 1)) && numbersOf(inputs[1])?.join() === shape.join();
  return isWritten ? null : [result];
};

const isCopy = (result: Value, node: Node, data: readonly (Value | null)[]): boolean =>
  result.node.op === node.op && data.every((v, i) => result.node.inputs[i] === v);

/** Steps of a slice that keeps the shape are 1, or it turns an axis around. */
const simplifySlice: Rule = (node, inputs) => {
  const isForward = !inputs[4] || numbersOf(inputs[4])?.every((step) => step > 0);
  return isForward ? same(node, inputs[0]!) : null;
};

const simplifyPad: Rule = (node, inputs) => (numbersOf(inputs[1])?.every((n) => n === 0) ? same(node, inputs[0]!) : null);

/** Empty parts add nothing; one part is the whole. */
const simplifyConcat: Rule = (node, inputs) => {
  const parts = inputs.filter((v) => v && elementCount(v.type.shape) > 0);
  if (parts.length === 1) return same(node, parts[0]!);
  return parts.length > 1 && parts.length < inputs.length ? apply(node.op, parts, node.attrs, node.from) : null;
};

/** A Slice for each part, so that each is a view of its own. */
const simplifySplit: Rule = (node, [x]) => {
  if (node.outputs.length === 1) return [x!];
  const rank = x!.type.shape.length;
  const { axis } = node.attrs as { axis: number };
  const at = axis < 0 ? axis + rank : axis;
  let next = 0;
  return node.outputs.map(({ type }) => {
    const ranges = [[next], [next + type.shape[at]], [at]].map((list) => intsValue(list, node.from));
    next += type.shape[at];
    return apply(OPS.get("Slice")!, [x!, ...ranges], {}, node.from)[0];
  });
};

const simplifyCast: Rule = (node, [x]) => same(node, x!);

const simplifyPow: Rule = (node, [x, exponent]) => {
  const tensor = constantOf(exponent);
  return tensor && elementCount(tensor.shape) === 1 && toNumber(tensor, 0) === 1 ? same(node, x!) : null;
};

const simplifyClip: Rule = (node, [x, lo, hi]) => (!lo && !hi ? same(node, x!) : null);

/** c − x and x − c with constants as sums and products, so that later passes see one form of each. */
const simplifySub: Rule = (node, inputs) => {
  const unchanged = neutral(0, false)(node, inputs);
  const c = constantOf(inputs[1]);
  if (unchanged || !c || !isFloat(c.dtype)) return unchanged;
  const negative = constantValue(fromNumbers(c.dtype, c.shape, toNumbers(c).map((v) => -v)), node.from); // biome-ignore format: short
  return apply(OPS.get("Add")!, [inputs[0], negative], {}, node.from);
};

/** Division by a constant power of two is exactly a product, which is one instruction and folds into weights. */
const simplifyDiv: Rule = (node, inputs) => {
  const unchanged = neutral(1, false)(node, inputs);
  const c = constantOf(inputs[1]);
  if (unchanged || !c || !isFloat(c.dtype) || elementCount(c.shape) > 4096) return unchanged;
  const values = toNumbers(c);
  if (!values.every((v) => Number.isFinite(1 / v) && Number.isInteger(Math.log2(Math.abs(v))))) return null;
  const inverse = constantValue(fromNumbers(c.dtype, c.shape, values.map((v) => 1 / v)), node.from); // biome-ignore format: short
  return apply(OPS.get("Mul")!, [inputs[0], inverse], {}, node.from);
};

/** A reduction that drops its axes: one that keeps them, and a Reshape; one over axes of size 1 only moves elements. */
const simplifyReduce: Rule = (node, inputs) => {
  const [x] = inputs;
  const { shape } = typeOf(node);
  const overOnes = elementCount(x!.type.shape) === elementCount(shape) && elementCount(shape) > 0;
  if (overOnes && PLAIN_REDUCTIONS.has(node.op.name)) return [reshaped(x!, shape, node.from)];
  if ((node.attrs as { keepdims?: number }).keepdims !== 0) return null;
  const [kept] = apply(node.op, inputs, { ...node.attrs, keepdims: 1 }, node.from);
  return [reshaped(kept, shape, node.from)];
};

/** Reductions that give a single element unchanged. */
const PLAIN_REDUCTIONS: ReadonlySet<string> = new Set(["ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd"]);

const RULES: Readonly<Record<string, Rule>> = {
  Identity: asReshape,
  Flatten: asReshape,
  Squeeze: asReshape,
  Unsqueeze: asReshape,
  Reshape: simplifyReshape,
  Transpose: simplifyTranspose,
  Expand: ifSameShape,
  Tile: ifSameShape,
  Slice: simplifySlice,
  Pad: simplifyPad,
  Concat: simplifyConcat,
  Split: simplifySplit,
  Cast: simplifyCast,
  CastLike: simplifyCast,
  Add: neutral(0, true),
  Sub: simplifySub,
  Mul: neutral(1, true),
  Div: simplifyDiv,
  Pow: simplifyPow,
  Clip: simplifyClip,
  Sum: ifOne,
  Mean: ifOne,
  Max: ifOne,
  Min: ifOne,
};

/** The simpler values of a node, or null. */
export const simplifyNode: Rule = (node, inputs) => {
  if (node.op.kind === "reduce" && inputs[0]) return simplifyReduce(node, inputs);
  return RULES[node.op.name]?.(node, inputs) ?? null;
};

export const simplify: Pass = rulePass("simplify", simplifyNode);
