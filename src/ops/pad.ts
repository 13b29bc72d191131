// Pad: grows (or, with negative numbers, crops) axes with a constant, their edge, their mirror image or themselves.
import { HeddleError } from "../ir/error.ts";
import { both, constant, type Expr, select, within } from "../ir/expr.ts";
import { apply, type Builder, defineOp, type ImportContext, type Node, type Op, type Reader, type Value } from "../ir/graph.ts";
import { addIndex, clampIndex, constIndex, type Index, modIndex, mulIndex } from "../ir/index_expr.ts";
import type { Shape } from "../ir/tensor.ts";
import { constantNumbers, f32, i32, inputType, ints, movedToInputs, normalizeAxes, requiredNumbers, scalarOf, the } from "./define.ts";
import { identity, throughAxis, zerosOf } from "./gradient.ts";
import { constantValue } from "./source.ts";

const MODES = ["constant", "reflect", "edge", "wrap"] as const;
type Mode = (typeof MODES)[number];

/** Elements before and after each axis. */
interface Margins {
  readonly before: readonly number[];
  readonly after: readonly number[];
}

function marginsOf(inputs: readonly (Value | null)[], shape: Shape): Margins {
  const pads = requiredNumbers("Pad", inputs, 1, "the list of pads");
  const given = constantNumbers("Pad", inputs, 3, "the list of axes");
  const axes = given ? normalizeAxes("Pad", given, shape.length) : shape.map((_, i) => i);
  if (pads.length !== 2 * axes.length)
    throw new HeddleError("bad-model", `Pad: ${pads.length} pads for ${axes.length} axes, wanted ${2 * axes.length}`);
  const before = shape.map(() => 0);
  const after = shape.map(() => 0);
  for (const [i, axis] of axes.entries()) {
    before[axis] = pads[i];
    after[axis] = pads[i + axes.length];
  }
  return { before, after };
}

/** Where in [0, n) the element `at`, which may be outside, is taken from. */
function source(at: Index, n: number, mode: Mode): Index {
  switch (mode) {
    case "constant":
    case "edge":
      return clampIndex(at, 0, n - 1);
    case "wrap":
      return at.lo >= 0 && at.hi < n ? at : modIndex(at, n);
    case "reflect": {
      if (n === 1) return constIndex(0);
      if (at.lo >= 0 && at.hi < n) return at;
      // A triangle wave: up to n-1, and down again for as many steps as it went over.
      const phase = modIndex(at, 2 * (n - 1));
      const over = clampIndex(addIndex(phase, 1 - n), 0, n - 2);
      return clampIndex(addIndex(phase, mulIndex(over, -2)), 0, n - 1);
    }
    default:
      return mode satisfies never;
  }
}

function padded(x: Reader, value: Reader | null, index: readonly Index[], { before }: Margins, mode: Mode): Expr {
  const { shape, dtype } = x.type;
  const at = index.map((i, axis) => addIndex(i, -before[axis]));
  if (mode !== "constant") return x.at(at.map((i, axis) => source(i, shape[axis], mode)));
  const fill = value ? value.at(value.type.shape.map(() => constIndex(0))) : constant(dtype, 0);
  if (shape.includes(0)) return fill;
  const isInside = at.map((i, axis) => within(i, 0, shape[axis])).reduce(both, constant("bool", 1));
  const inside = x.at(at.map((i, axis) => source(i, shape[axis], mode)));
  return isInside.k === "const" && isInside.value ? inside : select(isInside, inside, fill);
}

/** What was added is cut off, and what was cut off is zero. */
function unpadded(build: Builder, grad: Value, node: Node<object>): Value {
  const { before, after } = marginsOf(node.inputs, node.inputs[0]!.type.shape); // checked by infer
  return build.op("Pad", [grad, build.ints(...[...before, ...after].map((n) => -n))]);
}

/** Elements that were taken several times get the sum, axis after axis. */
function unwrapped(build: Builder, grad: Value, node: Node<{ mode: Mode }>): Value {
  const { dtype, shape } = node.inputs[0]!.type; // checked by infer
  const { before, after } = marginsOf(node.inputs, shape);
  return shape.reduce((dx, size, axis) => {
    if (before[axis] === 0 && after[axis] === 0) return dx;
    const margins = build.ints(0, before[axis], 0, after[axis]);
    return throughAxis(build, dx, axis, build.op("Pad", [identity(build, dtype, size), margins], { mode: node.attrs.mode }));
  }, grad);
}

/** The sum over all that was added. */
function valueGradient(build: Builder, grad: Value, node: Node<object>): Value {
  const [x, pads, value, axes] = node.inputs;
  const { dtype, shape } = x!.type; // checked by infer, as the value is
  const added = build.op("Pad", [zerosOf(build, dtype, shape), pads, build.constant(dtype, 1), axes ?? null]);
  return build.reshape(build.op("ReduceSum", [build.op("Mul", [grad, added])], { keepdims: 0 }), value!.type.shape);
}

const Pad: Op = defineOp<{ mode: Mode }>({
  name: "Pad",
  kind: "view",
  attrs: { mode: { type: "string", default: "constant" } },
  infer(inputs, { mode }) {
    const { dtype, shape } = inputType("Pad", inputs, 0);
    if (!MODES.includes(mode)) throw new HeddleError("bad-model", `Pad: mode is ${mode}, wanted ${MODES.join(", ")}`);
    const { before, after } = marginsOf(inputs, shape);
    const out = shape.map((d, i) => d + before[i] + after[i]);
    if (out.some((d) => d < 0)) throw new HeddleError("bad-model", `Pad: pads (${before}), (${after}) crop more than (${shape}) has`);
    if (mode !== "constant" && shape.some((d, i) => d === 0 && out[i] > 0))
      throw new HeddleError("bad-model", `Pad: mode ${mode} has nothing to take from an empty axis of (${shape})`);
    const value = inputs[2]?.type;
    if (value && value.dtype !== dtype) throw new HeddleError("bad-model", `Pad: input 0 is ${dtype}, the value is ${value.dtype}`);
    return [{ dtype, shape: out }];
  },
  lower([input, , value], node) {
    const x = the(input);
    const margins = marginsOf(node.inputs, x.type.shape);
    return [{ type: node.outputs[0].type, at: (index) => padded(x, value ?? null, index, margins, node.attrs.mode) }];
  },
  vjp({ build, grad, wants }, node) {
    const dy = grad(0)!; // the only output
    const dx = node.attrs.mode === "constant" ? unpadded(build, dy, node) : unwrapped(build, dy, node);
    return [dx, null, wants(2) ? valueGradient(build, dy, node) : null, null];
  },
  permute({ order, permuted, kept }, node) {
    const given = constantNumbers("Pad", node.inputs, 3, "the list of axes") ?? order.map((_, i) => i);
    const axes = normalizeAxes("Pad", given, order.length).map((a) => order.indexOf(a));
    const value = node.inputs[2] ? kept(2) : null;
    return apply(Pad, [permuted(0), kept(1), value, constantValue(ints(...axes), node.from)], node.attrs, node.from);
  },
  importOnnx: (context: ImportContext) =>
    movedToInputs(
      () => Pad,
      [
        { name: context.opset < 2 ? "paddings" : "pads", input: 1, dtype: "i64" },
        { name: "value", input: 2, scalar: true },
      ],
    )(context),
  flops: () => 0,
  samples: [
    { inputs: [f32(3, 5), ints(1, 2, 0, 3)] },
    { inputs: [f32(2, 3, 4), ints(0, 1, 2, 0, 2, 1), scalarOf("f32", 1.5)] },
    { inputs: [f32(3, 5), ints(2, 4, 1, 3)], attrs: { mode: "reflect" } },
    { inputs: [f32(3, 5), ints(2, 0, 1, 3)], attrs: { mode: "edge" } },
    { inputs: [f32(3, 5), ints(2, 0, 1, 7)], attrs: { mode: "wrap" } },
    { inputs: [f32(4, 6), ints(-1, 2, 0, -3)] },
    { inputs: [f32(4, 1, 6), ints(1, 2), null, ints(2)] },
    { inputs: [i32(2, 2), ints(1, 1, 1, 1), scalarOf("i32", 7)] },
  ],
});

export const padOps: readonly Op[] = [Pad];
