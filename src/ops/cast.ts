// Conversions between element types.
import { DTYPES, type DType, dtypeFromOnnx } from "../ir/dtype.ts";
import { HeddleError } from "../ir/error.ts";
import { cast } from "../ir/expr.ts";
import { type AttrSpec, defineOp, type Node, type Op, type Reader, type TensorType, type Value, type VjpContext } from "../ir/graph.ts";
import { emittable, f32, i32, i64, inputType, tensorOf, the, u8 } from "./define.ts";
import { castFloat8 } from "./float8.ts";

/** dtype of an ONNX data type number. Throws for strings, complex numbers and types of 4 bits. */
export function dtypeAttribute(op: string, code: number): DType {
  const dtype = dtypeFromOnnx(code);
  if (!dtype)
    throw new HeddleError("unsupported", `${op}: ONNX data type ${code} is not supported (${Object.keys(DTYPES).join(", ")} are)`);
  return dtype;
}

const converted = (x: Reader, type: TensorType, attrs: FloatAttrs): Reader =>
  castFloat8(x, type, attrs) ?? { type, at: (index) => cast(type.dtype, x.at(index)) };

/** A gradient that flows goes from floats to floats. */
const castBack = <A>({ build, grad }: VjpContext, node: Node<A>): readonly (Value | null)[] =>
  node.inputs.map((x, i) => (i === 0 ? build.cast(grad(0)!, x!.type.dtype) : null)); // the only output; checked by infer

/** Says what floats too large for an 8-bit float become: no other type looks at it. */
interface FloatAttrs {
  readonly saturate: number;
}
const floatAttrs: Readonly<Record<string, AttrSpec>> = {
  saturate: { type: "int", default: 1 },
  round_mode: { type: "string", default: "up" },
};

const Cast: Op = defineOp<FloatAttrs & { to: number }>({
  name: "Cast",
  kind: "map",
  attrs: { to: { type: "int" }, ...floatAttrs },
  infer: (inputs, { to }) => [{ dtype: dtypeAttribute("Cast", to), shape: inputType("Cast", inputs, 0).shape }],
  lower: ([x], node) => [converted(the(x), node.outputs[0].type, node.attrs)],
  vjp: castBack,
  samples: [
    { inputs: [f32(3, 5)], attrs: { to: DTYPES.i32.onnx }, range: [-100, 100] },
    { inputs: [f32(3, 5)], attrs: { to: DTYPES.bool.onnx } },
    { inputs: [f32(3, 5)], attrs: { to: DTYPES.f16.onnx } },
    { inputs: [i32(7)], attrs: { to: DTYPES.f32.onnx } },
    { inputs: [i64(2, 3)], attrs: { to: DTYPES.i32.onnx } },
    { inputs: [u8(17)], attrs: { to: DTYPES.f32.onnx } },
    { inputs: [tensorOf("i32", [-1, 300, 255])], attrs: { to: DTYPES.u8.onnx } },
    { inputs: [tensorOf("f32", [0.3, -0, 1e-4, 17, 500, Number.NEGATIVE_INFINITY, Number.NaN])], attrs: { to: DTYPES.f8e4m3fn.onnx } },
    { inputs: [tensorOf("f32", [0.3, -0, 1e-5, 17, 7e4, Number.NEGATIVE_INFINITY, Number.NaN])], attrs: { to: DTYPES.f8e5m2.onnx, saturate: 0 } }, // biome-ignore format: short
    { inputs: [tensorOf("f8e4m3fn", [0.5, -0, 2 ** -9, -448, Number.NaN])], attrs: { to: DTYPES.f32.onnx } },
    { inputs: [tensorOf("f8e5m2", [0.5, -0, 2 ** -16, Number.NEGATIVE_INFINITY, Number.NaN])], attrs: { to: DTYPES.f16.onnx } },
  ],
});

const CastLike: Op = defineOp<FloatAttrs>({
  name: "CastLike",
  kind: "map",
  attrs: floatAttrs,
  infer: (inputs) => [{ dtype: inputType("CastLike", inputs, 1).dtype, shape: inputType("CastLike", inputs, 0).shape }],
  lower: ([x], node) => [converted(the(x), node.outputs[0].type, node.attrs)],
  vjp: castBack,
  // Only the second input's type counts: as an attribute it needs no tensor.
  importOnnx({ emit, inputs, attrs }) {
    const to = DTYPES[inputType("CastLike", inputs, 1).dtype].onnx;
    return emit(emittable(Cast), [inputs[0]], { ...attrs, to });
  },
  samples: [{ inputs: [f32(3, 5), i32(1)] }],
});

export const castOps: readonly Op[] = [Cast, CastLike];
