// Gelu by tanh around products: its gradient as one operator, and products that end in it or in its slope, for libraries that compute both at once.
import { HeddleError } from "../ir/error.ts";
import { defineOp, type Node, type Op, type TensorType, type Value } from "../ir/graph.ts";
import { elementCount } from "../ir/tensor.ts";
import { builder } from "./build.ts";
import { FLOATS, f32, inputType, sameDType } from "./define.ts";
import { type Formula, formula } from "./gradient.ts";
import { MatMul, productGeometry } from "./matmul.ts";

/** y = x/2·(1 + t) with t = tanh(√(2/π)·(x + c·x³)). */
function tanhGeluSlope(f: Formula, x: Value): Value {
  const [factor, cubic] = [Math.sqrt(2 / Math.PI), 0.044715];
  const square = f.square(x);
  const t = f.op("Tanh", f.mul(x, f.add(f.mul(square, cubic), 1), factor));
  const inner = f.mul(x, f.sub(1, f.square(t)), f.add(f.mul(square, 3 * cubic), 1), factor);
  return f.mul(f.add(f.add(t, 1), inner), 0.5);
}

/** x, dy → dy times the slope of Gelu by tanh at x. */
export const GeluGrad: Op = defineOp<object>({
  name: "GeluGrad",
  kind: "map",
  own: true,
  attrs: {},
  infer(inputs) {
    const types = [0, 1].map((i) => inputType("GeluGrad", inputs, i, FLOATS));
    if (types[0].shape.join() !== types[1].shape.join())
      throw new HeddleError("bad-model", `GeluGrad: (${types[0].shape}) and (${types[1].shape}), wanted one shape`);
    return [{ dtype: sameDType("GeluGrad", types), shape: types[0].shape }];
  },
  expand([x, dy], _, node) {
    const f = formula(builder(node.from), x!.type.dtype); // checked by infer
    return [f.mul(dy!, tanhGeluSlope(f, x!))];
  },
  flops: (node) => 16 * elementCount(node.outputs[0].type.shape),
  samples: [{ inputs: [f32(3, 17), f32(3, 17)] }],
});

/** The product's rows and columns, as a tensor of the first operand's type. */
function productType(op: string, inputs: readonly (Value | null)[]): TensorType {
  const types = [0, 1].map((i) => inputType(op, inputs, i, FLOATS));
  const [left, right] = types.map((t) => t.shape);
  if (left.length < 2 || right.length !== 2 || left[left.length - 1] !== right[0])
    throw new HeddleError("bad-model", `${op}: (${left}) by (${right}), wanted (…, K) by (K, N)`);
  return { dtype: sameDType(op, types), shape: [...left.slice(0, -1), right[1]] };
}

const productFlops = ({ inputs: [a, b] }: Node): number => {
  const { m, n, k, batch } = productGeometry("MatMul", a!.type.shape, b!.type.shape); // checked by infer
  return 2 * elementCount(batch) * m * n * k;
};

/** x (…, K) · w (K, N) + bias (N) = s → Gelu by tanh of s, and s itself, both in the operands' type. */
export const GeluProduct: Op = defineOp<object>({
  name: "GeluProduct",
  kind: "opaque",
  own: true,
  attrs: {},
  infer(inputs) {
    const type = productType("GeluProduct", inputs);
    const { shape } = inputType("GeluProduct", inputs, 2, FLOATS);
    if (shape.join() !== `${type.shape.at(-1)}`)
      throw new HeddleError("bad-model", `GeluProduct: a bias (${shape}) for results of shape (${type.shape})`);
    return [type, type];
  },
  expand([x, w, bias], _, node) {
    const build = builder(node.from);
    const wide = node.outputs[0].type.dtype === "f64" ? "f64" : "f32";
    const sum = build.op("Add", [build.cast(build.op(MatMul, [x!, w!]), wide), build.cast(bias!, wide)]); // checked by infer
    return [build.op("Gelu", [sum], { approximate: "tanh" }), sum].map((v, i) => build.cast(v, node.outputs[i].type.dtype));
  },
  flops: productFlops,
  samples: [{ inputs: [f32(2, 3, 8), f32(8, 5), f32(5)] }],
});

/** g (…, K) · w (K, N), times the slope of Gelu by tanh at s, which has as many rows. */
export const GeluGradProduct: Op = defineOp<object>({
  name: "GeluGradProduct",
  kind: "opaque",
  own: true,
  attrs: {},
  infer(inputs) {
    const { dtype, shape } = productType("GeluGradProduct", inputs);
    const s = inputType("GeluGradProduct", inputs, 2, FLOATS);
    if (s.dtype !== dtype || s.shape.at(-1) !== shape.at(-1) || elementCount(s.shape) !== elementCount(shape))
      throw new HeddleError("bad-model", `GeluGradProduct: ${s.dtype}(${s.shape}) for products ${dtype}(${shape})`);
    return [s];
  },
  expand([g, w, s], _, node) {
    const build = builder(node.from);
    const { dtype, shape } = node.outputs[0].type;
    const wide = dtype === "f64" ? "f64" : "f32";
    const products = build.reshape(build.op(MatMul, [g!, w!]), shape); // checked by infer
    return [build.cast(build.op(GeluGrad, [build.cast(s!, wide), build.cast(products, wide)]), dtype)];
  },
  flops: productFlops,
  samples: [{ inputs: [f32(6, 8), f32(8, 5), f32(2, 3, 5)] }],
});

export const geluProductOps: readonly Op[] = [GeluGrad, GeluProduct, GeluGradProduct];
