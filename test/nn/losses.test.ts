// Losses and initialisers against their formulas.
import { describe, expect, test } from "vitest";
import { bce, bceWithLogits, crossEntropy, huber, init, klDivergence, l1, mse } from "../../src/nn/index.ts";
import { key, type Tensor, tensor } from "../../src/tensor/index.ts";

const logits = tensor([[1, 2, 0.5], [-1, 0, 3]]); // biome-ignore format: a matrix
const rows = [[1, 2, 0.5], [-1, 0, 3]]; // biome-ignore format: a matrix
const logP = rows.map((row) => row.map((n) => n - Math.log(row.reduce((sum, m) => sum + Math.exp(m), 0))));
const classes = tensor([1, 0], "i32");

const losses: Readonly<Record<string, readonly [Tensor, number]>> = {
  "cross-entropy": [crossEntropy(logits, classes), -(logP[0][1] + logP[1][0]) / 2],
  "of a sum": [crossEntropy(logits, classes, { reduction: "sum" }), -(logP[0][1] + logP[1][0])],
  "with smoothed labels": [
    crossEntropy(logits, classes, { labelSmoothing: 0.3 }),
    -(0.7 * (logP[0][1] + logP[1][0]) + 0.1 * logP.flat().reduce((a, b) => a + b)) / 2,
  ],
  "with an ignored label": [crossEntropy(logits, tensor([1, -1], "i32"), { ignoreIndex: -1 }), -logP[0][1]],
  "of probabilities": [crossEntropy(logits, tensor([[0, 0.5, 0.5], [1, 0, 0]])), -((logP[0][1] + logP[0][2]) / 2 + logP[1][0]) / 2], // biome-ignore format: short
  squared: [mse(tensor([1, 4]), tensor([0, 2])), 2.5],
  absolute: [l1(tensor([1, 4]), tensor([0, 2])), 1.5],
  huber: [huber(tensor([0.5, 4]), tensor([0, 2])), (0.125 + 1.5) / 2],
  binary: [bce(tensor([0.2, 0.9]), tensor([0, 1])), -(Math.log(0.8) + Math.log(0.9)) / 2],
  "binary, certain and wrong": [bce(tensor([0]), tensor([1])), 100],
  "binary of logits": [bceWithLogits(tensor([-2, 3]), tensor([0, 1])), (Math.log1p(Math.exp(-2)) + Math.log1p(Math.exp(-3))) / 2],
  "binary of a large logit": [bceWithLogits(tensor([200]), tensor([0])), 200],
  divergence: [klDivergence(tensor([[Math.log(0.5), Math.log(0.5)]]), tensor([[0.25, 0.75]])), 0.25 * Math.log(0.5) + 0.75 * Math.log(1.5)],
  "divergence of what is certain": [klDivergence(tensor([[Math.log(0.5), Math.log(0.5)]]), tensor([[0, 1]])), Math.log(2)],
};

test.each(Object.entries(losses))("%s", async (_, [got, wanted]) => {
  expect(Math.abs((await got.item()) - wanted)).toBeLessThan(1e-5 * (1 + Math.abs(wanted)));
});

test("targets of another shape are refused", () => {
  expect(() => crossEntropy(logits, tensor([1], "i32"))).toThrow("targets of shape (1) for logits of shape (2,3)");
});

describe("initialisers", () => {
  const shape = [64, 32, 3, 3];
  const deviation = async (x: Tensor): Promise<number> => Math.sqrt(await x.square().mean().item());

  test.each([
    ["kaimingNormal", init.kaimingNormal(key(1), shape), Math.sqrt(2 / 288)],
    ["kaimingUniform", init.kaimingUniform(key(1), shape), Math.sqrt(2 / 288)],
    ["xavierNormal", init.xavierNormal(key(1), shape), Math.sqrt(2 / (288 + 576))],
    ["xavierUniform", init.xavierUniform(key(1), shape), Math.sqrt(2 / (288 + 576))],
    ["fanInUniform", init.fanInUniform(key(1), shape), Math.sqrt(1 / 3 / 288)],
  ])("%s has its deviation", async (_, weights, wanted) => {
    expect((await deviation(weights)) / wanted).toBeCloseTo(1, 1);
  });

  test("equal keys give equal weights", async () => {
    const [a, b, c] = [1, 1, 2].map((seed) => init.normal(key(seed), [4]).array());
    expect(await a).toEqual(await b);
    expect(await a).not.toEqual(await c);
  });
});
