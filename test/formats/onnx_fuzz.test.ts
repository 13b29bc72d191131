// Damaged ONNX files: each is imported or refused with one clear line, quickly, whatever the damage.
import { describe, expect, it } from "vitest";
import { exportOnnx } from "../../src/formats/onnx/export.ts";
import { importGraph } from "../../src/formats/onnx/import.ts";
import { readOnnx } from "../../src/formats/onnx/read.ts";
import { HeddleError } from "../../src/ir/error.ts";
import { type Attrs, apply, type Graph, type Op, type Value } from "../../src/ir/graph.ts";
import { fromNumbers } from "../../src/ir/tensor.ts";
import { OPS } from "../../src/ops/index.ts";
import { constantValue, Input, input } from "../../src/ops/source.ts";
import { threadMs } from "../run/turns.ts";
import { floats, info, ints, model, node } from "./onnx_model.ts";

const SEED = 20240607;
/** Of this thread: what else the machine does must not count. */
const LIMIT_MS = 1000;
/** Cases of each kind of damage to each sample of each operator. */
const ROUNDS = 3;

/** Numerical Recipes' linear congruential generator: the same damage on every run. */
function generator(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

const values = (shape: number[], dtype: "f32" | "i64" = "f32"): Value =>
  constantValue(
    fromNumbers(
      dtype,
      shape,
      Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => ((i * 7) % 11) / 5 - 1),
    ),
  );
const list = (...numbers: number[]): Value => constantValue(fromNumbers("i64", [numbers.length], numbers));

/** A small network of the kinds that real ones have: convolution, normalisation, pooling, shapes, branches of tensors. */
function network(): Uint8Array<ArrayBuffer> {
  const op = (name: string, inputs: (Value | null)[], attrs: Attrs = {}) => apply(OPS.get(name)!, inputs, attrs, name.toLowerCase())[0];
  const x = input("x", { dtype: "f32", shape: [1, 3, 8, 8] });
  const conv = op("Conv", [x, values([4, 3, 3, 3]), values([4])], { pads: [1, 1, 1, 1], strides: [2, 2], kernel_shape: [3, 3] });
  const pool = op("MaxPool", [op("HardSigmoid", [conv])], { kernel_shape: [2, 2], strides: [2, 2] });
  const flat = op("Reshape", [op("Transpose", [pool], { perm: [0, 2, 3, 1] }), list(1, -1)]);
  const dense = op("Gemm", [flat, values([16, 5]), values([5])], { alpha: 0.5 });
  const cut = op("Slice", [op("Softmax", [dense]), list(0), list(4), list(1)]);
  const y = op("ReduceSum", [op("Concat", [cut, cut], { axis: 1 }), list(1)], { keepdims: 0 });
  const graph: Graph = { inputs: [x], outputs: [{ name: "y", value: y }, { name: "z", value: op("Resize", [conv, null, values([0]), list(1, 4, 8, 8)], { mode: "linear" }) }] }; // biome-ignore format: one idea
  return exportOnnx(graph) as Uint8Array<ArrayBuffer>;
}

/** Shape arithmetic, a function of the model's own, typed data and data outside the file. */
function oddities(): Uint8Array<ArrayBuffer> {
  const graph = {
    node: [
      node("Shape", ["x"], ["shape"]),
      node("Concat", ["more", "shape"], ["longer"], { axis: 0 }),
      node("ConstantOfShape", ["longer"], ["ones"]),
      node("Expand", ["x", "longer"], ["wide"]),
      { ...node("Twice", ["wide"], ["w2"], { axis: 0 }), domain: "own" },
      node("Range", ["zero", "end", "one"], ["r"]),
      node("Tile", ["r", "reps"], ["tiled"]),
      node("Add", ["w2", "bias"], ["y"]),
    ],
    initializer: [
      ints("more", [2, 2]), ints("reps", [3]), floats("bias", [2], [1, 2]),
      { ...ints("zero", [0]), dims: [] }, { ...ints("end", [5]), dims: [] }, { ...ints("one", [1]), dims: [] },
      { name: "outside", dataType: 1, dims: [4n], dataLocation: 1, externalData: [{ key: "location", value: "w.bin" }] },
    ], // biome-ignore format: a table
    input: [info("x", ["N", 2])],
    output: [info("y", []), info("tiled", [])],
  };
  const twice = {
    name: "Twice", domain: "own", input: ["a"], output: ["b"], attribute: ["axis"], opsetImport: [{ domain: "", version: 17n }],
    node: [node("Concat", ["a", "a"], ["b"], { axis: "axis" })],
  }; // biome-ignore format: a table
  return model(graph, { functions: [twice] });
}

type Damage = (bytes: Uint8Array, below: (n: number) => number) => Uint8Array;

const damages: Readonly<Record<string, Damage>> = {
  "a cut": (b, below) => b.slice(0, below(b.length)),
  "a flipped bit": (b, below) => b.with(...flip(b, below)),
  "three flipped bits": (b, below) => b.with(...flip(b, below)).with(...flip(b, below)).with(...flip(b, below)),
  "a byte of ones": (b, below) => b.with(below(b.length), 0xff),
  "a missing byte": (b, below) => splice(b, below(b.length), 1, []),
  "a large number": (b, below) => splice(b, below(b.length), 1, [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]),
  "a missing part": (b, below) => splice(b, below(b.length), below(64), []),
  "a repeated part": (b, below) => {
    const at = below(b.length);
    return splice(b, at, 0, [...b.subarray(at, at + below(64))]);
  },
}; // biome-ignore format: a table

const flip = (b: Uint8Array, below: (n: number) => number): [number, number] => {
  const at = below(b.length);
  return [at, b[at] ^ (1 << below(8))];
};
const splice = (b: Uint8Array, at: number, remove: number, add: readonly number[]): Uint8Array =>
  Uint8Array.from([...b.subarray(0, at), ...add, ...b.subarray(at + remove)]);

/** "imported", or the error's code; throws when the error is not one that users may see. */
function outcome(bytes: Uint8Array, shapes: Record<string, number[]>): string {
  const start = threadMs();
  try {
    importGraph(readOnnx(bytes, { directory: import.meta.dirname }), shapes);
    return "imported";
  } catch (e) {
    if (!(e instanceof HeddleError) || e.code === "verify" || /\n/.test(e.message) || e.message.length > 1000) throw e;
    return e.code;
  } finally {
    expect(threadMs() - start).toBeLessThan(LIMIT_MS);
  }
}

const bases = [
  { name: "a network", bytes: network(), shapes: {} as Record<string, number[]> },
  { name: "oddities", bytes: oddities(), shapes: { x: [3, 2] } },
];

describe("damaged files", () => {
  for (const { name, bytes, shapes } of bases) {
    it(`${name}: is right when whole`, () => expect(outcome(bytes, shapes)).toBe("imported"));
    for (const [kind, damage] of Object.entries(damages)) {
      it(`${name} with ${kind}`, () => {
        const below = generator(SEED + kind.length);
        for (let i = 0; i < 40; i++) {
          const damaged = damage(bytes, below);
          try {
            outcome(damaged, shapes);
          } catch (e) {
            throw new Error(`case ${i} of ${kind}, ${damaged.length} bytes: ${e instanceof Error ? e.stack : e}`);
          }
        }
      });
    }
  }
});

describe("damaged operators", () => {
  /** One file a sample: small, so that most damage meets sizes and attributes. */
  const filesOf = (op: Op): Uint8Array[] =>
    (op.samples ?? []).map((sample) => {
      const values = sample.inputs.map((x, i) => x && ("data" in x ? constantValue(x) : input(`x${i}`, x)));
      const outputs = apply(op, values, sample.attrs ?? {}, "n");
      const inputs = values.filter((v) => v !== null).filter((v) => v.node.op === Input);
      return exportOnnx({ inputs, outputs: outputs.map((value, i) => ({ name: `y${i}`, value })) });
    });
  for (const [name, op] of OPS) {
    if (op.own) continue; // no file holds them
    it(name, () => {
      const below = generator(SEED);
      for (const [s, bytes] of filesOf(op).entries()) {
        for (const [kind, damage] of Object.entries(damages)) {
          if (kind === "a cut") continue; // the same for all operators
          for (let i = 0; i < ROUNDS; i++) {
            const damaged = damage(bytes, below);
            try {
              outcome(damaged, {});
            } catch (e) {
              throw new Error(`sample ${s}, case ${i} of ${kind}: ${e instanceof Error ? e.stack : e}`);
            }
          }
        }
      }
    });
  }
});

describe("hostile files", () => {
  const nodes = (count: number, of: (i: number) => ReturnType<typeof node>) => Array.from({ length: count }, (_, i) => of(i));
  const io = { input: [info("x", [2])], output: [info("y", [])] };

  it("a long chain is no problem", () => {
    const chain = nodes(20000, (i) => node("Neg", [i === 0 ? "x" : `v${i - 1}`], [i === 19999 ? "y" : `v${i}`]));
    expect(outcome(model({ ...io, node: chain }), {})).toBe("imported");
    expect(outcome(model({ ...io, node: chain.toReversed() }), {})).toBe("imported");
  });
  it("a ring of nodes is bad", () => {
    const ring = nodes(1000, (i) => node("Neg", [`v${(i + 999) % 1000}`], [`v${i}`]));
    expect(outcome(model({ ...io, node: [...ring, node("Neg", ["v7"], ["y"])] }), {})).toBe("bad-model");
  });
  it("functions that double themselves are limited", () => {
    const opsetImport = [{ domain: "", version: 17n }, { domain: "own", version: 1n }]; // biome-ignore format: one idea
    const call = (f: string, from: string, to: string) => ({ ...node(f, [from], [to]), domain: "own" });
    const functions = nodes(30, (i) => call(`f${i + 1}`, "a", "t")).map((first, i) => ({
      name: `f${i}`, domain: "own", input: ["a"], output: ["b"], opsetImport, node: i === 29 ? [node("Neg", ["a"], ["b"])] : [first, call(`f${i + 1}`, "t", "b")],
    })); // biome-ignore format: a table
    expect(outcome(model({ ...io, node: [call("f0", "x", "y")] }, { functions, opsetImport }), {})).toBe("limit");
  });
  it("sub-graphs nested without end are limited", () => {
    let inner = node("Neg", ["x"], ["y"]);
    for (let i = 0; i < 60; i++) inner = node("If", ["c"], ["y"], { then_branch: { node: [inner], output: [info("y", [])] } });
    expect(["bad-model", "limit", "unsupported"]).toContain(outcome(model({ ...io, node: [inner] }), {}));
  });
  it.each([
    ["a shape of 2^40", [node("ConstantOfShape", ["big"], ["y"])], "limit"],
    ["a tensor repeated 2^40 times", [node("Tile", ["x", "big"], ["y"])], "limit"],
    ["a range of 2^40", [node("Range", ["zero", "huge", "one"], ["y"])], "limit"],
    ["an expansion to 2^40", [node("Expand", ["x", "wide"], ["y"])], "limit"],
    ["one-hot of depth 2^40", [node("OneHot", ["more", "big", "pair"], ["y"])], "limit"],
    ["2^40 elements of padding", [node("Pad", ["x", "bigs"], ["y"])], "limit"],
    ["a window of 2^40", [node("HannWindow", ["huge"], ["y"])], "limit"],
    ["splitting into 2^31 parts", [node("Split", ["x"], ["y"], { num_outputs: 2 ** 31 })], "bad-model"],
    ["2^40 new axes", [node("Unsqueeze", ["x", "big"], ["y"])], "bad-model"],
    ["a large range", [node("Range", ["zero", "large", "one"], ["y"])], "imported"],
    ["sums over large constants", [node("ConstantOfShape", ["larges"], ["a"]), node("ReduceSum", ["a"], ["y"])], "imported"],
    ["work that grows by folding", nodes(2000, (i) => node("Range", ["zero", "some", "one"], [i === 0 ? "y" : `r${i}`])), "imported"],
  ])("%s", (_, made, wanted) => {
    const scalar = (name: string, x: number) => ({ ...ints(name, [x]), dims: [] });
    const initializer = [
      ints("big", [2 ** 40]), ints("bigs", [2 ** 40, 2 ** 40]), ints("wide", [2 ** 40, 2]), ints("more", [1, 2]), floats("pair", [2], [0, 1]), ints("larges", [30000, 30000]),
      scalar("zero", 0), scalar("one", 1), scalar("huge", 2 ** 40), scalar("large", 2 ** 30), scalar("some", 60000),
    ]; // biome-ignore format: a table
    expect(outcome(model({ ...io, node: made, initializer }, {}, 18), {})).toBe(wanted);
  });
});
