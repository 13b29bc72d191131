// Convolutions of signed bytes by known weights, with what makes bytes of their sums: for libraries that do it in one kernel.
import { DTYPES } from "../ir/dtype.ts";
import { HeddleError } from "../ir/error.ts";
import { apply, defineOp, type Op } from "../ir/graph.ts";
import { elementCount, type Shape } from "../ir/tensor.ts";
import { builder } from "./build.ts";
import { dtypeAttribute } from "./cast.ts";
import { Conv, type ConvAttrs } from "./conv.ts";
import { inputType, tensorOf } from "./define.ts";
import { QuantizeLinear } from "./quantize.ts";
import { ConvInteger } from "./quantized_product.ts";
import { input } from "./source.ts";
import { permuteLayout, SLIDE_ATTRS } from "./spatial.ts";

/** x, w (M,C,…), bias (M) → sums as i32; with a factor (M): sums times it, as float32, or rounded to bytes and kept inside of their range. */
export const Int8Conv: Op = defineOp<ConvAttrs & { to: number }>({
  name: "Int8Conv",
  kind: "opaque",
  own: true,
  attrs: { ...SLIDE_ATTRS, group: { type: "int", default: 1 }, to: { type: "int", default: DTYPES.i32.onnx } },
  infer(inputs, { to, ...attrs }) {
    const op = "Int8Conv";
    const [x, w] = [0, 1].map((i) => input(`in${i}`, { dtype: "f32", shape: inputType(op, inputs, i, ["i8"]).shape }));
    const [{ type }] = apply(Conv, [x, w], { ...attrs });
    const [channels] = w.type.shape;
    const lists = [inputType(op, inputs, 2, ["i32"]), ...(inputs[3] ? [inputType(op, inputs, 3, ["f32"])] : [])];
    if (lists.some(({ shape }) => shape.join() !== `${channels}`))
      throw new HeddleError("bad-model", `${op}: wanted a bias and a factor for each of ${channels} channels`);
    return [{ dtype: dtypeAttribute(op, to), shape: type.shape }];
  },
  expand([x, w, bias, factor], { to, ...attrs }, node) {
    const build = builder(node.from);
    const perChannel: Shape = attrs.layout === "NHWC" ? [-1] : [-1, ...x!.type.shape.slice(2).map(() => 1)];
    const [sums] = apply(ConvInteger, [x, w], { ...attrs }, node.from);
    const whole = build.op("Add", [sums, build.reshape(bias!, perChannel)]); // checked by infer
    if (!factor) return [whole];
    const scaled = build.op("Mul", [build.cast(whole, "f32"), build.reshape(factor, perChannel)]);
    const type = dtypeAttribute("Int8Conv", to);
    return [type === "f32" ? scaled : build.op(QuantizeLinear, [scaled, build.constant("f32", 1), build.constant(type, 0)])];
  },
  permute: permuteLayout<ConvAttrs & { to: number }>(() => Int8Conv),
  prefersChannelsLast: true,
  flops: ({ inputs: [, w], outputs: [y] }) => 2 * elementCount(y.type.shape) * elementCount(w!.type.shape.slice(1)), // checked by infer
  samples: [
    {
      inputs: [
        { dtype: "i8", shape: [1, 2, 5, 5] },
        { dtype: "i8", shape: [3, 2, 3, 3] },
        tensorOf("i32", [5, -7, 20]),
        tensorOf("f32", [0.1, 0.02, 0.3]),
      ],
      attrs: { pads: [1, 1, 1, 1], to: DTYPES.u8.onnx },
    },
    { inputs: [{ dtype: "i8", shape: [1, 2, 5, 5] }, { dtype: "i8", shape: [3, 2, 3, 3] }, tensorOf("i32", [5, -7, 20])] },
  ],
});
