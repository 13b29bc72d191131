// ONNX files import to graphs of the right values, and wrong ones are refused with one clear line.
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { importGraph } from "../../src/formats/onnx/import.ts";
import { readOnnx } from "../../src/formats/onnx/read.ts";
import type { Graph } from "../../src/ir/graph.ts";
import { topologicalOrder } from "../../src/ir/graph.ts";
import { fromNumbers, toNumbers } from "../../src/ir/tensor.ts";
import { verifyGraph } from "../../src/ir/verify.ts";
import { evaluateGraph } from "../../src/ops/index.ts";
import { floats, type GraphInit, info, ints, model, node } from "./onnx_model.ts";

const f32 = (shape: number[], values: number[]) => fromNumbers("f32", shape, values);
const run = (graph: Graph, inputs: Parameters<typeof evaluateGraph>[1]) =>
  Object.values(evaluateGraph(graph, inputs)).map((t) => [...toNumbers(t)]);
const opNames = (graph: Graph) => topologicalOrder(graph).map((n) => n.op.name);
const imported = (graph: GraphInit, shapes: Record<string, number[]> = {}, rest = {}, opset = 17): Graph => {
  const result = importGraph(readOnnx(model(graph, rest, opset)), shapes);
  verifyGraph(result);
  return result;
};
/** x (2) → y: what the middle computes. */
const around = (nodes: GraphInit["node"], initializer: GraphInit["initializer"] = []): GraphInit => ({
  node: nodes,
  initializer,
  input: [info("x", [2])],
  output: [info("y", [])],
});

describe("import", () => {
  it("applies nodes to inputs and initializers", () => {
    const graph = imported(around([node("Add", ["x", "w"], ["s"]), node("Relu", ["s"], ["y"])], [floats("w", [2], [1, -5])]));
    expect(run(graph, { x: f32([2], [1, 2]) })).toEqual([[2, 0]]);
  });
  it("names nodes, also those without a name", () => {
    const graph = imported(around([{ ...node("Relu", ["x"], ["a"]), name: "first" }, node("Sqrt", ["a"], ["y"])]));
    expect(topologicalOrder(graph).map((n) => n.from)).toEqual(["x", "first", "Sqrt#1"]);
  });
  it("sorts nodes that are not in order", () => {
    const graph = imported(around([node("Sqrt", ["a"], ["y"]), node("Relu", ["x"], ["a"])]));
    expect(opNames(graph)).toEqual(["Input", "Relu", "Sqrt"]);
  });
  it("folds shape arithmetic", () => {
    const nodes = [
      node("Shape", ["x"], ["shape"]),
      node("Gather", ["shape", "second"], ["size"]),
      node("Concat", ["minus", "size"], ["target"], { axis: 0 }),
      node("Reshape", ["x", "target"], ["y"]),
    ];
    const graph = imported(
      { node: nodes, initializer: [ints("second", [2]), ints("minus", [-1])], input: [info("x", ["N", 3, "W"])], output: [info("y", [])] },
      { x: [2, 3, 4] },
    );
    expect(opNames(graph)).toEqual(["Input", "Constant", "Reshape"]);
    expect(graph.outputs[0].value.type.shape).toEqual([6, 4]);
  });
  it("reads constants in all forms", () => {
    const constant = (attrs: Parameters<typeof node>[3], name: string) => node("Constant", [], [name], attrs);
    const graph = imported(
      around([constant({ value_float: { f: 2 } }, "a"), node("Mul", ["x", "a"], ["y"]), constant({ value_ints: [1, 2] }, "unused")]),
    );
    expect(run(graph, { x: f32([2], [1, 2]) })).toEqual([[2, 4]]);
    expect(() => imported(around([constant({}, "y")]))).toThrow("Constant: 0 attributes, wanted exactly one value; from Constant#0");
  });
  it("runs functions of the model, with their attributes", () => {
    const f = {
      name: "Shrink", domain: "own", input: ["a", "b"], output: ["out"], attribute: ["across"],
      opsetImport: [{ domain: "", version: 17n }],
      node: [node("Concat", ["a", "a"], ["t"], { axis: "across" }), node("Clip", ["t", "b"], ["out"])],
    }; // biome-ignore format: a table
    const call = { ...node("Shrink", ["x"], ["y"], { across: 0 }), domain: "own", name: "call" };
    const graph = imported(around([call]), {}, { functions: [f] });
    expect(run(graph, { x: f32([2], [3, 4]) })).toEqual([[3, 4, 3, 4]]);
    expect(topologicalOrder(graph).map((n) => n.from)).toEqual(["x", "call/Concat#0", "call/Clip#1"]);
    const loop = { ...f, node: [{ ...node("Shrink", ["a"], ["out"]), domain: "own" }], opsetImport: [{ domain: "own", version: 1n }] };
    expect(() => imported(around([call]), {}, { functions: [loop] })).toThrow("nested more than 32 deep");
  });
  it("keeps to sizes that share a name", () => {
    const graph: GraphInit = {
      node: [node("Add", ["a", "b"], ["y"])],
      input: [info("a", ["N", 2]), info("b", ["N", 2])],
      output: [info("y", ["N", 2])],
    };
    expect(imported(graph, { a: [3, 2] }).inputs.map((v) => v.type.shape)).toEqual([[3, 2], [3, 2]]); // biome-ignore format: one idea
    expect(() => imported(graph, { a: [3, 2], b: [4, 2] })).toThrow("N is 4 here and 3 in input a");
    expect(() => imported(graph)).toThrow("input a: its shape (N, 2) is not fixed; give it, for example --shape a=1x2");
    expect(() => imported(graph, { a: [3, 5] })).toThrow("input a: shape (3,5) does not fit (N, 2): axis 1 is 5, the model has 2");
    expect(() => imported(graph, { c: [3] })).toThrow("shape of c: the model has no such input, it has a, b");
  });
});

describe("what is refused", () => {
  const refused = (graph: GraphInit, message: string, opset?: number) => expect(() => imported(graph, {}, {}, opset)).toThrow(message);
  it("names operator, domain, opset and node", () => {
    refused(
      around([node("Frobnicate", ["x"], ["y"])]),
      'Frobnicate: heddle has no such operator (domain "ai.onnx", opset 17); from Frobnicate#0',
    );
    refused(
      around([{ ...node("Relu", ["x"], ["y"]), domain: "com.example" }]),
      'Relu: the model imports no operators of the domain "com.example"',
    );
    refused(around([node("Relu", ["x"], ["y"])]), "Relu: opset 99 is not supported, heddle reads 1 to 24; from Relu#0", 99);
  });
  it("names what is wrong in the graph", () => {
    refused(around([node("Relu", ["nope"], ["y"])]), "Relu: input nope is not defined; from Relu#0");
    refused(around([node("Relu", ["y"], ["y"])]), "Relu: the graph has a cycle through this node; from Relu#0");
    refused(around([node("Relu", ["x"], ["y"]), node("Sqrt", ["x"], ["y"])]), "Sqrt: its output y is defined twice; from Sqrt#1");
    refused(around([node("Relu", ["x"], ["x"])]), "Relu: its output x is defined twice");
    refused(around([node("Relu", ["x"], ["z"])]), "output y: nothing in the graph computes it");
    refused(around([node("Relu", ["x"], ["y"], { speed: 3 })]), "Relu: attribute speed = 3 is not supported; from Relu#0");
    refused(around([node("Concat", ["x", "x"], ["y"], { axis: [1] })]), "Concat: attribute axis is [1], wanted int; from Concat#0");
    refused(around([node("Relu", ["x"], ["y", "z"])]), "Relu: output 1 (z) is not supported, only 1; from Relu#0");
    refused(around([node("Relu", [], ["y"])]), "Relu: input 0 is missing; from Relu#0");
  });
  it("checks sizes before allocating", () => {
    const relu = [node("Add", ["x", "w"], ["y"])];
    const huge = { ...floats("w", [], []), dims: [2n ** 40n] };
    refused(around(relu, [huge]), "initializer w: shape (1099511627776) has more than 2^31 elements");
    refused(around(relu, [{ ...huge, dims: [-1n] }]), "initializer w: shape (-1) has the size -1");
    refused(around(relu, [{ ...huge, dims: [0n, 2n ** 62n] }]), "has more than 2^31 elements");
    refused(around(relu, [{ ...huge, dims: [2n ** 30n] }]), "initializer w: 0 values in float_data, f32[1073741824] has 1073741824");
    refused(around(relu, [floats("w", [3], [1, 2])]), "initializer w: 8 bytes of data, f32[3] has 12; from Add#0");
    refused(around(relu, [{ ...floats("w", [2], [1, 2]), dataType: 8 }]), "initializer w: ONNX data type string is not supported");
    refused(around(relu, [{ ...floats("w", [2], [1, 2]), dataType: 77 }]), "initializer w: data type 77 is not an ONNX type");
  });
  it("reads no file that is none", () => {
    expect(() => readOnnx(new Uint8Array())).toThrow("model: the file holds no graph; is it an ONNX file?");
    expect(() => readOnnx(new TextEncoder().encode("<!doctype html><html>"))).toThrow("model: not a valid ONNX file, or cut short");
    expect(() => readOnnx(model({}, { opsetImport: [] }))).toThrow("it does not say which version of the operators it uses");
  });
});

describe("external data", () => {
  const root = mkdtempSync(join(tmpdir(), "heddle-external-"));
  const directory = join(root, "model");
  mkdirSync(directory);
  writeFileSync(join(directory, "weights.bin"), new Uint8Array(Float32Array.from([9, 1, 2]).buffer));
  writeFileSync(join(root, "secret.bin"), new Uint8Array(8));
  symlinkSync(join(root, "secret.bin"), join(directory, "link.bin"));
  afterAll(() => rmSync(root, { recursive: true }));

  const load = (fields: Record<string, string>, from: string | undefined = directory) => {
    const externalData = Object.entries(fields).map(([key, value]) => ({ key, value }));
    const w = { name: "w", dataType: 1, dims: [2n], dataLocation: 1, externalData };
    return importGraph(readOnnx(model(around([node("Add", ["x", "w"], ["y"])], [w])), { directory: from }));
  };
  it("is read from the model's directory", () => {
    const graph = load({ location: "weights.bin", offset: "4", length: "8" });
    expect(run(graph, { x: f32([2], [10, 20]) })).toEqual([[11, 22]]);
    expect(run(load({ location: "./weights.bin", offset: "4" }), { x: f32([2], [0, 0]) })).toEqual([[1, 2]]);
  });
  it.each([
    [{ location: "none.bin" }, "missing", 'initializer w: external data file "none.bin" is not in the model\'s directory'],
    [{ location: "../secret.bin" }, "bad-model", "outside of the model's directory"],
    [{ location: "/etc/passwd" }, "bad-model", "outside of the model's directory"],
    [{ location: "link.bin" }, "bad-model", "leads outside of the model's directory"],
    [{ location: "." }, "bad-model", "outside of the model's directory"],
    [{ location: "weights.bin", offset: "8" }, "bad-model", "4 bytes of external data in weights.bin, the shape wants 8"],
    [{ location: "weights.bin", offset: "8", length: "8" }, "bad-model", "bytes 8 to 16 are outside of weights.bin, which has 12"],
    [{ location: "weights.bin", offset: "-4" }, "bad-model", 'offset "-4", wanted a whole number'],
    [{ location: "weights.bin", length: "1e300" }, "bad-model", 'length "1e300", wanted a whole number'],
    [{}, "bad-model", "external data without a location"],
  ])("refuses %j", (fields, code, message) => {
    expect(() => load(fields as Record<string, string>)).toThrow(
      expect.objectContaining({ code, message: expect.stringContaining(message) }),
    );
  });
  it("wants a directory", () => {
    const bytes = model(around([node("Add", ["x", "w"], ["y"])], [{ name: "w", dataType: 1, dims: [2n], dataLocation: 1, externalData: [{ key: "location", value: "a" }] }])); // biome-ignore format: one idea
    expect(() => importGraph(readOnnx(bytes))).toThrow(expect.objectContaining({ code: "missing" }));
  });
});
