// Sparse initializers of ONNX files are read in both forms, written where they are smaller, and hostile ones are refused in one line.
import { describe, expect, test } from "vitest";
import { exportOnnx } from "../../src/formats/onnx/export.ts";
import { importGraph } from "../../src/formats/onnx/import.ts";
import { readOnnx } from "../../src/formats/onnx/read.ts";
import { HeddleError } from "../../src/ir/error.ts";
import { apply, type Graph } from "../../src/ir/graph.ts";
import { fromNumbers, type TensorData } from "../../src/ir/tensor.ts";
import { evaluateGraph, OPS } from "../../src/ops/index.ts";
import { constantValue, input } from "../../src/ops/source.ts";
import { randomMatrix } from "../sparse/matrices.ts";
import { floats, info, ints, model, node, type TensorInit } from "./onnx_model.ts";

interface SparseInit {
  readonly dims?: readonly number[];
  readonly values?: TensorInit;
  readonly indices?: TensorInit;
}

/** y = x + w, x and w (2, 3) */
const added = ({ dims = [2, 3], ...rest }: SparseInit, more: object = {}): Uint8Array =>
  model({
    node: [node("Add", ["x", "w"], ["y"])],
    input: [info("x", [2, 3])],
    output: [info("y", [2, 3])],
    sparseInitializer: [{ dims: dims.map(BigInt), values: floats("w", [3], [1, 2, 3]), indices: ints("", [0, 4, 5]), ...rest }],
    ...more,
  });

const table = (dims: readonly number[], values: readonly number[]): TensorInit => ({ ...ints("", values), dims: dims.map(BigInt) });
const zero = fromNumbers("f32", [2, 3], new Float32Array(6));
const run = (bytes: Uint8Array, x: TensorData = zero) => [...evaluateGraph(importGraph(readOnnx(bytes)), { x }).y.data];

describe("reading", () => {
  test("positions in the flat tensor", () => expect(run(added({}))).toEqual([1, 0, 0, 0, 2, 3]));
  test("coordinates", () => expect(run(added({ indices: table([3, 2], [0, 1, 0, 2, 1, 0]) }))).toEqual([0, 1, 2, 3, 0, 0]));
  test("no nonzeros", () => expect(run(added({ values: floats("w", [0], []), indices: ints("", []) }))).toEqual([0, 0, 0, 0, 0, 0]));
  test("an input of the same name is only its default", () => {
    const bytes = added({}, { input: [info("x", [2, 3]), info("w", [2, 3])] });
    expect(readOnnx(bytes).inputs.map(({ name }) => name)).toEqual(["x"]);
    expect(run(bytes)).toEqual([1, 0, 0, 0, 2, 3]);
  });
  test("half floats keep their bits", () => {
    const half = { name: "w", dataType: 10, dims: [1n], rawData: new Uint8Array(Uint16Array.of(0x3e00).buffer) };
    const graph = importGraph(
      readOnnx(
        added({ values: half, indices: ints("", [1]) }, { node: [node("Identity", ["w"], ["y"])], output: [info("y", [2, 3], 10)] }),
      ),
    );
    expect([...evaluateGraph(graph, { x: zero }).y.data]).toEqual([0, 0x3e00, 0, 0, 0, 0]);
  });
});

describe("refused", () => {
  test.each<readonly [string, SparseInit]>([
    ["indices of shape (2), wanted (3) or (3, 2)", { indices: ints("", [0, 1]) }],
    ["indices of shape (3,3), wanted (3) or (3, 2)", { indices: table([3, 3], [0, 0, 0, 0, 1, 0, 1, 1, 1]) }],
    ["index 6 of nonzero 2 is not from 0 to 5", { indices: ints("", [0, 1, 6]) }],
    ["index -1 of nonzero 0", { indices: ints("", [-1, 1, 5]) }],
    ["index 3 of nonzero 1 is not from 0 to 2", { indices: table([3, 2], [0, 0, 0, 3, 1, 1]) }],
    ["nonzero 2 does not come after", { indices: ints("", [0, 4, 4]) }],
    ["nonzero 1 does not come after", { indices: table([3, 2], [1, 0, 0, 2, 1, 1]) }],
    ["indices of f32, wanted i64", { indices: floats("", [3], [0, 1, 2]) }],
    ["values of shape (3,1), wanted a list", { values: floats("w", [3, 1], [1, 2, 3]) }],
    ["it has no indices", { indices: undefined }],
    ["has the size -2", { dims: [-2, 3] }],
    ["more than 2^31 elements", { dims: [2 ** 20, 2 ** 20] }],
    ["unpacks to more than 4 GiB", { dims: [2 ** 15, 2 ** 15 + 1] }],
  ])("%s", (why, init) => {
    const read = () => run(added(init));
    expect(read).toThrow(HeddleError);
    expect(read).toThrow(why);
  });
  test("a name defined twice", () => {
    expect(() => run(added({}, { initializer: [floats("w", [1], [1])] }))).toThrow("initializer w: the name is defined twice");
  });
  test("without values it has no name", () => {
    expect(() => run(added({ values: undefined }))).toThrow(HeddleError);
  });
});

describe("writing", () => {
  const graphOf = (w: TensorData): Graph => {
    const x = input("x", { dtype: "f32", shape: [4, w.shape[0]] });
    return { inputs: [x], outputs: [{ name: "y", value: apply(OPS.get("MatMul")!, [x, constantValue(w, "w")], {}, "product")[0] }] };
  };
  const counts = (bytes: Uint8Array) => {
    const { graph } = readOnnx(bytes);
    return [graph.initializer.length, graph.sparseInitializer.length];
  };

  test.each([
    [0, 1],
    [0.05, 1],
    [0.3, 1],
    [0.36, 0],
    [1, 0],
  ])("density %s", (density, sparse) => {
    const w = randomMatrix(40, 60, density, 3);
    const graph = graphOf(w);
    const bytes = exportOnnx(graph, { sparse: true });
    expect(counts(bytes)).toEqual([1 - sparse, sparse]);
    expect(counts(exportOnnx(graph))).toEqual([1, 0]);
    expect(bytes.length <= exportOnnx(graph).length).toBe(true);
    const x = randomMatrix(4, 40, 1, 4);
    expect(evaluateGraph(importGraph(readOnnx(bytes)), { x })).toEqual(evaluateGraph(graph, { x }));
  });

  test("every bit comes back: -0 and NaN too", () => {
    const data = new Float32Array(64);
    data.set([-0, Number.NaN, 1e-45, Number.NEGATIVE_INFINITY], 7);
    const w: TensorData = { dtype: "f32", shape: [8, 8], data };
    const graph: Graph = { inputs: [], outputs: [{ name: "y", value: constantValue(w, "w") }] };
    const bytes = exportOnnx(graph, { sparse: true });
    expect(counts(bytes)).toEqual([0, 1]);
    expect(evaluateGraph(importGraph(readOnnx(bytes)), {}).y).toEqual(w);
  });
});
