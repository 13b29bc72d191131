// Gradients of whole networks against central differences in float64, the forms of gradient graphs, and what is refused.
import { describe, expect, it } from "vitest";
import { apply, type Graph, topologicalOrder, type Value } from "../../src/ir/graph.ts";
import { elementCount, fromNumbers, type Shape, type TensorData, toNumbers } from "../../src/ir/tensor.ts";
import { evaluateGraph } from "../../src/ops/index.ts";
import { constantValue, input, inputName } from "../../src/ops/source.ts";
import { gradients } from "../../src/passes/autodiff.ts";
import { optimize } from "../../src/passes/pipeline.ts";
import { anchors, graphOf, ints, noise, op, randomInputs, show } from "./support.ts";

const f64 = (name: string, ...shape: number[]): Value => input(name, { dtype: "f64", shape });
const constant = (dtype: "f64" | "f32", shape: Shape, values: ArrayLike<number>): Value =>
  constantValue(fromNumbers(dtype, shape, [...Array.from(values)]));
const one = (like: Value): Value => constant(like.type.dtype as "f64" | "f32", [], [1]);
const sum = (x: Value): Value => op("ReduceSum", [x], { keepdims: 0 });

/** A graph of the loss and its gradients with respect to all its inputs. */
function trained(loss: Value): Graph {
  const { inputs } = graphOf(loss);
  const grads = gradients([{ value: loss, grad: one(loss) }], inputs);
  return {
    inputs,
    outputs: [{ name: "loss", value: loss }, ...grads.map((g, i) => ({ name: `d${inputName(inputs[i])}`, value: g! }))], // all are used
  };
}

/** Compares three elements of each gradient with differences. */
function expectRight(loss: Value, step = 1e-5): void {
  const graph = trained(loss);
  const inputs = randomInputs(graph);
  const found = evaluateGraph(graph, inputs);
  const lossAt = (name: string, k: number, by: number): number => {
    const numbers = toNumbers(inputs[name]).slice();
    numbers[k] += by;
    const moved: TensorData = fromNumbers("f64", inputs[name].shape, numbers);
    return toNumbers(evaluateGraph({ ...graph, outputs: graph.outputs.slice(0, 1) }, { ...inputs, [name]: moved }).loss)[0];
  };
  for (const value of graph.inputs) {
    const name = inputName(value);
    const count = elementCount(value.type.shape);
    for (const k of new Set([0, Math.floor(count / 2), count - 1])) {
      const wanted = (lossAt(name, k, step) - lossAt(name, k, -step)) / (2 * step);
      const got = toNumbers(found[`d${name}`])[k];
      // Differences of a loss of the order of 1 are exact to 1e-16 / step.
      if (Math.abs(got - wanted) > 1e-7 * Math.max(1, Math.abs(wanted)))
        expect(`d${name}[${k}] = ${got}`).toBe(`d${name}[${k}] = ${wanted}`);
    }
  }
}

const crossEntropy = (logits: Value, classes: number[]): Value =>
  op("SoftmaxCrossEntropyLoss", [logits, constantValue(fromNumbers("i64", [classes.length], classes))]);

describe("networks", () => {
  it("a perceptron", () => {
    const hidden = op("Gelu", [op("Add", [op("MatMul", [f64("x", 4, 6), f64("w1", 6, 8)]), f64("b1", 8)])]);
    expectRight(crossEntropy(op("Gemm", [hidden, f64("w2", 3, 8), f64("b2", 3)], { transB: 1 }), [0, 2, 1, 1]));
  });
  it("a convolution network", () => {
    const conv = op("Conv", [f64("x", 2, 3, 8, 8), f64("w1", 4, 3, 3, 3)], { pads: [1, 1, 1, 1] });
    const still = [0, 1].map((v) => constant("f64", [4], new Array(4).fill(v)));
    const norm = op("BatchNormalization", [conv, f64("scale", 4), f64("bias", 4), ...still], { training_mode: 1 });
    const pooled = op("MaxPool", [op("Relu", [norm])], { kernel_shape: [2, 2], strides: [2, 2] });
    const deeper = op("Conv", [pooled, f64("w2", 6, 2, 3, 3), f64("b2", 6)], { group: 2, strides: [2, 2], pads: [1, 1, 1, 1] });
    const flat = op("Flatten", [op("GlobalAveragePool", [op("Swish", [deeper])])]);
    expectRight(crossEntropy(op("MatMul", [flat, f64("w3", 6, 3)]), [2, 0]));
  });
  it("an attention block", () => {
    const [batch, steps, width, heads] = [2, 5, 8, 2];
    const x = f64("x", batch, steps, width);
    const norm = op("LayerNormalization", [x, f64("scale", width), f64("bias", width)]);
    const split = (name: string, perm: number[]) => {
      const made = op("MatMul", [norm, f64(name, width, width)]);
      return op("Transpose", [op("Reshape", [made, ints(batch, steps, heads, width / heads)])], { perm });
    };
    const scores = op("MatMul", [split("wq", [0, 2, 1, 3]), split("wk", [0, 2, 3, 1])]);
    const mask = op("Trilu", [constant("f64", [steps, steps], new Array(steps ** 2).fill(1))], { upper: 0 });
    const masked = op("Where", [op("Cast", [mask], { to: 9 }), scores, constant("f64", [], [-1e9])]);
    const mixed = op("MatMul", [op("Softmax", [masked]), split("wv", [0, 2, 1, 3])]);
    const joined = op("Reshape", [op("Transpose", [mixed], { perm: [0, 2, 1, 3] }), ints(batch, steps, width)]);
    const out = op("Add", [x, op("MatMul", [joined, f64("wo", width, width)])]);
    expectRight(sum(op("Mul", [out, constant("f64", out.type.shape, noise(elementCount(out.type.shape), 3))])));
  });
  it("an embedding of tokens, with weights that are tied", () => {
    const table = f64("table", 7, 4);
    const tokens = constantValue(fromNumbers("i64", [2, 3], [1, 4, 4, 6, 0, 1]));
    const x = op("Tanh", [op("Gather", [table, tokens])]);
    const logits = op("Reshape", [op("MatMul", [x, op("Transpose", [table])]), ints(6, 7)]);
    expectRight(crossEntropy(logits, [4, 4, 6, 0, 1, 3]));
  });
});

describe("accumulation", () => {
  it("adds the gradients of all uses", () => {
    const x = f64("x", 3);
    const y = op("Mul", [x, x]);
    const [dx] = gradients([{ value: sum(op("Add", [y, x])), grad: one(y) }], [x]);
    expect([...toNumbers(evaluateGraph(graphOf(dx!), { x: fromNumbers("f64", [3], [1, 2, -3]) }).y0)]).toEqual([3, 5, -5]);
  });
  it("gives gradients of values inside, and goes on behind them", () => {
    const x = f64("x", 2);
    const inner = op("Exp", [x]);
    const [dx, dInner] = gradients([{ value: op("Mul", [inner, inner]), grad: constant("f64", [2], [1, 1]) }], [x, inner]);
    const found = evaluateGraph(graphOf(dx!, dInner!), { x: fromNumbers("f64", [2], [0, 1]) });
    expect([...toNumbers(found.y1)]).toEqual([2, 2 * Math.E]);
    expect([...toNumbers(found.y0)]).toEqual([2, 2 * Math.E * Math.E]);
  });
  it("counts an input of an expanded operator once, whatever it is made of", () => {
    const x = f64("x", 2, 2);
    const y = op("Gemm", [x, op("Relu", [x]), x]); // x·relu(x) + x
    expectRight(sum(y));
    expectRight(sum(op("Gemm", [x, x])));
  });
  it("is null where nothing depends on a value, or only through integers", () => {
    const [x, unused] = [f64("x", 3), f64("unused", 2)];
    const rounded = op("Cast", [op("Cast", [x], { to: 7 })], { to: 11 });
    expect(gradients([{ value: rounded, grad: constant("f64", [3], [1, 1, 1]) }], [x, unused])).toEqual([null, null]);
    const stopped = op("StopGradient", [x]);
    expect(gradients([{ value: stopped, grad: constant("f64", [3], [1, 1, 1]) }], [x])).toEqual([null]);
  });
  it("is not recursive in the depth of the graph", () => {
    const x = f64("x", 1);
    let y = x;
    for (let i = 0; i < 20_000; i++) y = op("Add", [y, x]);
    expect(gradients([{ value: y, grad: constant("f64", [1], [1]) }], [x])[0]).not.toBeNull();
  });
});

describe("form", () => {
  const lines = (loss: Value): string[] => show(optimize(trained(loss), { anchors }));
  const f32 = (name: string, ...shape: number[]) => input(name, { dtype: "f32", shape });
  it("of a perceptron: three more products, and no transposition of a result", () => {
    const hidden = op("Relu", [op("Add", [op("MatMul", [f32("x", 32, 20), f32("w1", 20, 24)]), f32("b1", 24)])]);
    const graph = trained(sum(op("MatMul", [hidden, f32("w2", 24, 4)])));
    const names = topologicalOrder(graph).map((n) => n.op.name);
    expect(names.filter((n) => n === "MatMul").length).toBe(6);
    const text = lines(sum(op("MatMul", [hidden, f32("w2", 24, 4)])));
    expect(text.filter((l) => l.includes("MatMul")).length).toBe(6);
  });
  it("multiplies all rows at once where weights have no batches", () => {
    const graph = trained(sum(op("MatMul", [f32("x", 4, 5, 6), f32("w", 6, 7)])));
    const shapes = topologicalOrder(graph).flatMap((n) => (n.op.name === "MatMul" ? [n.outputs[0].type.shape.join("x")] : []));
    expect(shapes).toEqual(["4x5x7", "20x6", "6x7"]);
  });
  it("turns the operands, not the gradient, of weights that are used transposed", () => {
    const graph = optimize(trained(sum(op("Gemm", [f32("x", 5, 6), f32("w", 7, 6)], { transB: 1 }))), { anchors });
    const made = graph.outputs.map((o) => o.value.node.op.name);
    expect(made).not.toContain("Transpose");
  });
});

describe("refuses", () => {
  it("operators without a gradient, by name and place", () => {
    const x = f64("x", 3, 3);
    const y = apply(op("Det", [x]).node.op, [x], {}, "volume")[0];
    expect(() => gradients([{ value: y, grad: one(y) }], [x])).toThrow("Det: it has no gradient; from volume");
  });
  it("gradients of another type", () => {
    const x = f64("x", 3);
    expect(() => gradients([{ value: x, grad: constant("f32", [3], [1, 1, 1]) }], [x])).toThrow(
      "gradients: a gradient of f32[3] for a value of f64[3]",
    );
  });
});
