// Activations and normalizations that files spell out become one operator.
import { describe, expect, it } from "vitest";
import type { Value } from "../../src/ir/graph.ts";
import { cse } from "../../src/passes/cse.ts";
import { gelu } from "../../src/passes/gelu.ts";
import { hardSwish } from "../../src/passes/hard_swish.ts";
import { layerNorm } from "../../src/passes/layer_norm.ts";
import { simplify } from "../../src/passes/simplify.ts";
import { softmax } from "../../src/passes/softmax.ts";
import { f32, graphOf, ints, op, scalar, textAfter, weights } from "./support.ts";

const x = f32("x", 2, 5, 8);
const mul = (a: Value, b: Value | number) => op("Mul", [a, typeof b === "number" ? scalar(b) : b]);
const add = (a: Value, b: Value | number) => op("Add", [a, typeof b === "number" ? scalar(b) : b]);
const div = (a: Value, b: Value | number) => op("Div", [a, typeof b === "number" ? scalar(b) : b]);

describe("hard swish", () => {
  const clip = op("Clip", [add(x, 3), scalar(0), scalar(6)]);
  const run = (y: Value) => textAfter(graphOf(y), simplify, cse, hardSwish);
  it("is found however it is written", () => {
    const relu6 = op("Min", [op("Relu", [add(x, 3)]), scalar(6)]);
    const hardSigmoid = op("HardSigmoid", [x], { alpha: 0.16666670143604279, beta: 0.5 });
    const line = op("Clip", [add(div(x, 6), 0.5), scalar(0), scalar(1)]);
    for (const y of [div(mul(x, clip), 6), mul(x, div(clip, 6)), mul(div(clip, 6), x), mul(mul(clip, 1 / 6), x), div(mul(x, relu6), 6), mul(x, hardSigmoid), mul(line, x)]) // biome-ignore format: short
      expect(run(y)).toEqual(["HardSwish(x) : 2x5x8"]);
  });
  it("is not found where numbers or values differ", () => {
    for (const y of [mul(x, clip), div(mul(x, clip), 5), div(mul(f32("z", 2, 5, 8), clip), 6), mul(x, op("HardSigmoid", [x]))])
      expect(run(y).join()).not.toContain("HardSwish");
  });
  it("has a smooth kin", () => {
    expect(run(mul(x, op("Sigmoid", [mul(x, 1)])))).toEqual(["Swish(x) : 2x5x8"]);
    expect(run(mul(op("Sigmoid", [mul(x, 1.5)]), x))).toEqual(["Swish(x){alpha=1.5} : 2x5x8"]);
    expect(run(mul(x, op("Sigmoid", [f32("z", 2, 5, 8)])))).toHaveLength(2);
  });
});

describe("gelu", () => {
  const run = (y: Value) => textAfter(graphOf(y), simplify, cse, gelu);
  it("is found with erf", () => {
    const gate = add(op("Erf", [div(x, Math.SQRT2)]), 1);
    for (const y of [mul(mul(x, gate), 0.5), mul(mul(x, 0.5), gate), mul(x, mul(gate, 0.5)), div(mul(gate, x), 2)])
      expect(run(y)).toEqual(["Gelu(x) : 2x5x8"]);
    expect(run(mul(x, gate)).join()).not.toContain("Gelu");
  });
  it("is found with tanh", () => {
    const cube = op("Pow", [x, scalar(3)]);
    const scale = Math.sqrt(2 / Math.PI);
    const arguments_ = [mul(add(x, mul(cube, 0.044715)), scale), mul(add(x, mul(mul(mul(x, x), x), 0.044715)), scale), mul(mul(x, scale), add(mul(mul(x, x), 0.044715), 1))]; // biome-ignore format: short
    for (const p of arguments_) expect(run(mul(mul(x, 0.5), add(op("Tanh", [p]), 1)))).toEqual(["Gelu(x){approximate=tanh} : 2x5x8"]);
    expect(run(mul(mul(x, 0.5), add(op("Tanh", [mul(x, scale)]), 1))).join()).not.toContain("Gelu");
  });
});

describe("softmax", () => {
  it("is found with and without the maximum taken out", () => {
    const exp = (v: Value) => op("Exp", [v]);
    const over = (v: Value) => div(v, op("ReduceSum", [v, ints(-1)]));
    expect(textAfter(graphOf(over(exp(x))), softmax)).toEqual(["Softmax(x){axis=2} : 2x5x8"]);
    expect(textAfter(graphOf(over(exp(op("Sub", [x, op("ReduceMax", [x, ints(2)])])))), softmax)).toEqual(["Softmax(x){axis=2} : 2x5x8"]);
    const other = textAfter(graphOf(over(exp(op("Sub", [x, op("ReduceMax", [x, ints(1)])])))), softmax);
    expect(other.at(-1)).toBe("Softmax(%1){axis=2} : 2x5x8");
  });
});

describe("layer norm", () => {
  const normalized = (axes: Value, square: (d: Value) => Value = (d) => op("Pow", [d, scalar(2)])) => {
    const centered = op("Sub", [x, op("ReduceMean", [x, axes])]);
    const variance = op("ReduceMean", [square(centered), axes]);
    return div(centered, op("Sqrt", [add(variance, 1e-5)]));
  };
  const gamma = weights(1, 8);
  const beta = weights(2, 8);
  it("takes scale and bias in", () => {
    const [line] = textAfter(graphOf(add(mul(normalized(ints(-1)), gamma), beta)), cse, layerNorm);
    expect(line).toMatch(/^LayerNormalization\(x, .*, .*\)\{axis=2 epsilon=0.0000\d+\} : 2x5x8$/);
    expect(
      textAfter(
        graphOf(
          add(
            mul(
              normalized(ints(-1), (d) => mul(d, d)),
              gamma,
            ),
            beta,
          ),
        ),
        layerNorm,
      ),
    ).toHaveLength(1);
  });
  it("works over several axes, without scale, and with the bias alone", () => {
    expect(textAfter(graphOf(normalized(ints(1, 2))), layerNorm)).toHaveLength(1);
    expect(textAfter(graphOf(add(normalized(ints(2)), beta)), layerNorm)).toHaveLength(1);
  });
  it("leaves scales outside that do not fit, or whose product is not the only reader", () => {
    expect(textAfter(graphOf(mul(normalized(ints(2)), weights(3, 5, 8))), layerNorm)).toHaveLength(2);
    const plain = normalized(ints(2));
    expect(textAfter(graphOf(mul(plain, gamma), plain), layerNorm)).toHaveLength(2);
    expect(textAfter(graphOf(mul(mul(normalized(ints(2)), gamma), gamma)), layerNorm)).toHaveLength(2);
  });
  it("is not a mean over the first axes", () => {
    expect(textAfter(graphOf(normalized(ints(1))), layerNorm).length).toBeGreaterThan(1);
  });
});
