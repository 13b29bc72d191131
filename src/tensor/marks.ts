// Operators that change no number and mark a place in the graph: where gradients stop, and where something is computed anew.
import { apply, defineOp, type Op, type Value } from "../ir/graph.ts";
import { applyOp } from "./trace.ts";

const StopGradient = defineOp<object>({
  name: "Identity",
  kind: "view",
  attrs: {},
  infer: ([x]) => [x!.type], // given by stopped()
  expand: ([x]) => [x!],
  vjp: () => [null],
});

/** The same numbers, constant for gradients. */
export const stopped = (x: Value): Value => applyOp(StopGradient, [x])[0];

/** The same value as a new one: what is differentiated with respect to it does not see the old one. */
const Fresh = defineOp<object>({
  name: "Identity",
  kind: "view",
  attrs: {},
  infer: ([x]) => [x!.type], // given by fresh()
  expand: ([x]) => [x!],
  vjp: ({ grad }) => [grad(0)],
});

export const fresh = (x: Value): Value => applyOp(Fresh, [x])[0];

/**
 * The first input, not before the second is there. It stays in the graph until programs are scheduled, so that what is computed from it
 * is not merged with what was computed from the input itself.
 */
const Barrier: Op = defineOp<object>({
  name: "Barrier",
  kind: "view",
  own: true,
  attrs: {},
  infer: ([x]) => [x!.type], // given by after()
  lower: ([x]) => [x!],
  vjp: ({ grad }) => [grad(0), null],
  permute: ({ permuted, kept }, node) => apply(Barrier, [permuted(0), kept(1)], {}, node.from),
  flops: () => 0,
});

export const after = (x: Value, first: Value): Value => applyOp(Barrier, [x, first])[0];
