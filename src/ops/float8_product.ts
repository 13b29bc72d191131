// Products of float8 numbers with a scale for each operand: for libraries that multiply them as they are.
import { DTYPES } from "../ir/dtype.ts";
import { HeddleError } from "../ir/error.ts";
import { defineOp, type Op } from "../ir/graph.ts";
import { elementCount } from "../ir/tensor.ts";
import { builder } from "./build.ts";
import { dtypeAttribute } from "./cast.ts";
import { inputType, scalarOf, tensorOf } from "./define.ts";
import { Int8Conv } from "./int8_conv.ts";
import { MatMul } from "./matmul.ts";
import { DequantizeLinear } from "./quantize.ts";

/** a (…,K), its scale, b (N,K), its scale → a · bᵀ times both scales, (…,N). */
export const Float8MatMul: Op = defineOp<{ to: number }>({
  name: "Float8MatMul",
  kind: "opaque",
  own: true,
  attrs: { to: { type: "int", default: DTYPES.f32.onnx } },
  infer(inputs, { to }) {
    const op = "Float8MatMul";
    const [a, b] = [0, 2].map((i) => inputType(op, inputs, i, ["f8e4m3fn"]).shape);
    for (const i of [1, 3])
      if (elementCount(inputType(op, inputs, i, ["f32"]).shape) !== 1)
        throw new HeddleError("bad-model", `${op}: wanted one scale for all`);
    if (a.length < 1 || b.length !== 2 || a[a.length - 1] !== b[1])
      throw new HeddleError("bad-model", `${op}: (${a}) by (${b}), wanted (…, K) by (N, K)`);
    return [{ dtype: dtypeAttribute(op, to), shape: [...a.slice(0, -1), b[0]] }];
  },
  expand([a, aScale, b, bScale], { to }, node) {
    const build = builder(node.from);
    const [left, right] = [[a, aScale], [b, bScale]].map(([x, scale]) => build.op(DequantizeLinear, [x!, build.reshape(scale!, [])])); // biome-ignore format: infer has seen all four
    return [build.cast(build.op(MatMul, [left, build.op("Transpose", [right], { perm: [1, 0] })]), dtypeAttribute("Float8MatMul", to))];
  },
  flops: ({ inputs: [a, , b] }) => 2 * elementCount(a!.type.shape) * b!.type.shape[0], // checked by infer
  samples: [
    {
      inputs: [
        tensorOf("f8e4m3fn", [1, -2, 0.5, 448, 0, 3], [2, 3]),
        scalarOf("f32", 0.5),
        tensorOf("f8e4m3fn", [1, 2, 3, 0.25, -1, 16], [2, 3]),
        scalarOf("f32", 2),
      ],
    },
  ],
});

export const narrowProductOps: readonly Op[] = [Float8MatMul, Int8Conv];
