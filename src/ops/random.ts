// Operators that draw random numbers. Dropout passes its input through, as it does in inference; the others are refused.
import { HeddleError } from "../ir/error.ts";
import { type AttrSpec, apply, defineOp, type Op, type Value } from "../ir/graph.ts";
import { toNumbers } from "../ir/tensor.ts";
import { FLOATS, f32, inputType, ints, movedToInputs, scalarOf } from "./define.ts";
import { constantOf, constantValue } from "./source.ts";
import { Expand } from "./view.ts";

const seed: AttrSpec = { type: "float", optional: true };
const dtype: AttrSpec = { type: "int", optional: true };

const refused = (name: string, attrs: Readonly<Record<string, AttrSpec>>): Op =>
  defineOp<object>({
    name,
    kind: "opaque",
    attrs: { seed, dtype, ...attrs },
    infer() {
      throw new HeddleError(
        "unsupported",
        `${name}: it draws random numbers, and heddle runs inference only; remove it or export the model for inference`,
      );
    },
  });

const optionalFloat: AttrSpec = { type: "float", optional: true };

/** Training with a ratio other than 0 would draw random numbers. */
function checkInference(inputs: readonly (Value | null)[]): void {
  const training = inputs[2];
  if (!training) return;
  const known = constantOf(training);
  const isOff = known && toNumbers(known)[0] === 0;
  const ratio = inputs[1] ? constantOf(inputs[1]) : undefined;
  if (!isOff && !(ratio && toNumbers(ratio)[0] === 0))
    throw new HeddleError("unsupported", "Dropout: training_mode must be a constant false; heddle runs inference only");
}

const Dropout: Op = defineOp<{ seed?: number }>({
  name: "Dropout",
  kind: "opaque",
  attrs: { seed: { type: "int", optional: true } },
  infer(inputs) {
    const x = inputType("Dropout", inputs, 0, FLOATS);
    checkInference(inputs);
    return [x, { dtype: "bool", shape: x.shape }];
  },
  expand([x, ...rest], _, node) {
    checkInference([x, ...rest]);
    const shape = x!.type.shape; // checked by infer
    const yes = constantValue(scalarOf("bool", 1), node.from);
    return [x!, apply(Expand, [yes, constantValue(ints(...shape), node.from)], {}, node.from)[0]];
  },
  // The old forms named the ratio, which does not matter in inference, and `is_test`.
  importOnnx(context) {
    const { ratio: _, is_test: __, consumed_inputs: ___, ...attrs } = context.attrs;
    const [x] = context.inputs;
    const outputs = movedToInputs(() => Dropout, [])({ ...context, attrs });
    return context.outputCount < 2 && x ? [x] : outputs;
  },
  samples: [{ inputs: [f32(3, 5)] }, { inputs: [f32(7), scalarOf("f32", 0.3), scalarOf("bool", 0)] }],
});

export const randomOps: readonly Op[] = [
  Dropout,
  refused("Bernoulli", {}),
  refused("Multinomial", { sample_size: { type: "int", default: 1 } }),
  refused("RandomNormal", { mean: optionalFloat, scale: optionalFloat, shape: { type: "ints", optional: true } }),
  refused("RandomNormalLike", { mean: optionalFloat, scale: optionalFloat }),
  refused("RandomUniform", { high: optionalFloat, low: optionalFloat, shape: { type: "ints", optional: true } }),
  refused("RandomUniformLike", { high: optionalFloat, low: optionalFloat }),
];
