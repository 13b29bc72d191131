// Window functions of signal processing: sums of cosines over a constant length.
import { DTYPES, type DType } from "../ir/dtype.ts";
import { HeddleError } from "../ir/error.ts";
import { call, constant, type Expr } from "../ir/expr.ts";
import { defineOp, type Op } from "../ir/graph.ts";
import { dtypeAttribute } from "./cast.ts";
import { requiredNumbers, scalarOf } from "./define.ts";

/** Σ cₖ · cos(2πkn / N), with N the length, or one less when the window is symmetric. */
const cosineWindow = (name: string, coefficients: readonly number[]): Op =>
  defineOp<{ periodic: number; output_datatype: number }>({
    name,
    kind: "map",
    attrs: { periodic: { type: "int", default: 1 }, output_datatype: { type: "int", default: DTYPES.f32.onnx } },
    infer(inputs, { output_datatype }) {
      const [size] = requiredNumbers(name, inputs, 0, "the length");
      if (!(size >= 0)) throw new HeddleError("bad-model", `${name}: length ${size} is negative`);
      return [{ dtype: dtypeAttribute(name, output_datatype), shape: [size] }];
    },
    lower(_, node) {
      const { type } = node.outputs[0];
      const period = Math.max(1, type.shape[0] - (node.attrs.periodic ? 0 : 1));
      return [
        {
          type,
          at([n]) {
            const dtype: DType = type.dtype;
            const place: Expr = { k: "index", dtype, at: n };
            const term = (c: number, k: number): Expr => {
              if (k === 0) return constant(dtype, c);
              return call("mul", constant(dtype, c), call("cos", call("mul", place, constant(dtype, (2 * Math.PI * k) / period))));
            };
            return coefficients.map(term).reduce((a, b) => call("add", a, b));
          },
        },
      ];
    },
    samples: [{ inputs: [scalarOf("i32", 10)] }, { inputs: [scalarOf("i64", 17)], attrs: { periodic: 0 } }],
  });

export const windowOps: readonly Op[] = [
  cosineWindow("HannWindow", [0.5, -0.5]),
  cosineWindow("HammingWindow", [25 / 46, -21 / 46]),
  cosineWindow("BlackmanWindow", [0.42, -0.5, 0.08]),
];
