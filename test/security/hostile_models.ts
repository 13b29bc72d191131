// Models written by hand to be refused: each asks for too much of something.
import { create } from "@bufbuild/protobuf";
import { floats, info, ints, model, node } from "../formats/onnx_model.ts";
import { AttributeProtoSchema } from "../formats/protobuf/onnx_pb.ts";

type Nodes = ReturnType<typeof node>[];

const list = <T>(count: number, of: (i: number) => T): T[] => Array.from({ length: count }, (_, i) => of(i));
const scalar = (name: string, x: number) => ({ ...ints(name, [x]), dims: [] });
const single = (name: string, x: number) => ({ ...floats(name, [1], [x]), dims: [] });

const constants = [
  ints("tera", [2 ** 40]), ints("teras", [2 ** 20, 2 ** 20]), ints("giga", [2 ** 30]), ints("max", [2 ** 31 - 1, 2 ** 31 - 1]), ints("mega", [2 ** 20]),
  ints("large", [4096, 4096]), ints("negative", [-5, -5]), ints("zeros", [0, 0]), ints("wild", [2 ** 40, -7, 9]), ints("one", [1]), ints("pads", [0, 2 ** 31, 0, 2 ** 31]),
  ints("least", [-(2 ** 62), -(2 ** 62)]), ints("most", [2 ** 62, 2 ** 62]), ints("axes", [0, 1]), ints("zero", [0]),
  scalar("none", 0), scalar("unit", 1), scalar("billion", 2 ** 30), scalar("trillion", 2 ** 40), single("tiny", 1e-30), single("fine", 1), single("vast", 1e30),
  { name: "true", dataType: 9, dims: [], int32Data: [1] }, floats("huge_scales", [2], [1e9, 1e9]), floats("nan_scales", [2], [Number.NaN, 1]),
  floats("w", [1, 1, 3, 3], new Array(9).fill(1)), floats("small_scales", [4], [1, 1, 1e-9, 1e-9]), floats("large_scales", [4], [1, 1, 1000, 1000]),
]; // biome-ignore format: a table

/** Of x, four by four, and image, one channel of eight by eight. */
const of = (nodes: Nodes, more: object = {}): Uint8Array =>
  model(
    { input: [info("x", [4, 4]), info("image", [1, 1, 8, 8])], output: [info("y", [])], node: nodes, initializer: constants, ...more },
    {},
    18,
  );

const chain = (count: number, operator: string): Nodes =>
  list(count, (i) => node(operator, [i === 0 ? "x" : `v${i - 1}`], [i === count - 1 ? "y" : `v${i}`]));

const inIf = (inner: Nodes, name: string) => ({ node: inner, output: [info(name, [])] });

function nestedIf(depth: number): Nodes {
  let inner: Nodes = [node("Neg", ["x"], ["y"])];
  for (let i = 0; i < depth; i++)
    inner = [node("If", ["true"], ["y"], { then_branch: inIf(inner, "y"), else_branch: inIf([node("Neg", ["x"], ["y"])], "y") })];
  return inner;
}

const conv = (attrs: Parameters<typeof node>[3]) => () => of([node("Conv", ["image", "w"], ["y"], attrs)]);
const pool = (attrs: Parameters<typeof node>[3]) => () => of([node("MaxPool", ["image"], ["y"], attrs)]);
const simple =
  (operator: string, inputs: string[], attrs: Parameters<typeof node>[3] = {}) =>
  () =>
    of([node(operator, inputs, ["y"], attrs)]);
const loop = (count: string, body: Nodes) => () =>
  of([node("Loop", [count, "true", "x"], ["y"], { body: { node: body, input: [info("i", [], 7), info("on", [], 9), info("s", [])], output: [info("on", [], 9), info("t", [])] } })]); // biome-ignore format: one idea

const MODELS: Readonly<Record<string, () => Uint8Array>> = {
  "tile to terabytes": simple("Tile", ["x", "teras"]),
  "tile a billion of each": simple("Tile", ["x", "max"]),
  "expand to terabytes": simple("Expand", ["x", "teras"]),
  "constant of terabytes": simple("ConstantOfShape", ["teras"]),
  "constant of 64 MB": simple("ConstantOfShape", ["large"]),
  "constant of negative size": simple("ConstantOfShape", ["negative"]),
  "range of a trillion": simple("Range", ["none", "trillion", "unit"]),
  "range of tiny steps": simple("Range", ["fine", "vast", "tiny"]),
  "range without step": simple("Range", ["none", "billion", "none"]),
  "one-hot of a trillion": simple("OneHot", ["zero", "trillion", "axes"]),
  "pad by gigabytes": simple("Pad", ["x", "pads"]),
  "pad by negative sizes": simple("Pad", ["x", "wild"]),
  "slice beyond all ends": simple("Slice", ["x", "least", "most", "axes", "most"]),
  "slice by step zero": simple("Slice", ["x", "least", "most", "axes", "zeros"]),
  "slice backwards by the least": simple("Slice", ["x", "most", "least", "axes", "least"]),
  "resize by a billion": simple("Resize", ["x", "", "huge_scales"]),
  "resize by not a number": simple("Resize", ["x", "", "nan_scales"]),
  "resize to nothing": simple("Resize", ["image", "", "small_scales"]),
  "resize by a thousand": simple("Resize", ["image", "", "large_scales"]),
  "resize to terabytes": simple("Resize", ["x", "", "", "teras"]),
  "reshape to terabytes": simple("Reshape", ["x", "teras"]),
  "reshape to negative sizes": simple("Reshape", ["x", "negative"]),
  "gather out of range": simple("Gather", ["x", "wild"]),
  "gather along an axis that is not there": simple("Gather", ["x", "zero"], { axis: 7 }),
  "scatter out of range": simple("ScatterElements", ["mega", "giga", "one"]),
  "top of more than there are": simple("TopK", ["x", "mega"]),
  "transpose by no permutation": simple("Transpose", ["x"], { perm: [0, 0] }),
  "transpose by far axes": simple("Transpose", ["x"], { perm: [2 ** 31, 1] }),
  "split into a billion": simple("Split", ["x"], { num_outputs: 2 ** 30 }),
  "concat along a far axis": simple("Concat", ["x", "x"], { axis: -(2 ** 31) }),
  "concat of 20000": () => of([node("Concat", new Array<string>(20_000).fill("x"), ["y"], { axis: 0 })]),
  "sum of 20000": () => of([node("Sum", new Array<string>(20_000).fill("x"), ["y"])]),
  "unsqueeze by 60 axes": () => of([node("Unsqueeze", ["x", "many"], ["y"])], { initializer: [ints("many", list(60, (i) => i))] }),
  "a rank of 60, transposed": () => of([node("Unsqueeze", ["x", "many"], ["z"]), node("Transpose", ["z"], ["y"])], { initializer: [ints("many", list(58, (i) => i))] }), // biome-ignore format: one idea
  "stride zero": conv({ strides: [0, 0] }),
  "negative strides": conv({ strides: [-1, -1] }),
  "group zero": conv({ group: 0 }),
  "a billion groups": conv({ group: 2 ** 30 }),
  "kernel larger than the image": conv({ kernel_shape: [3, 3], dilations: [100, 100] }),
  "dilation zero": conv({ dilations: [0, 0] }),
  "pads of gigabytes": conv({ pads: [2 ** 31, 2 ** 31, 2 ** 31, 2 ** 31] }),
  "pads of 5000": conv({ pads: [5000, 5000, 5000, 5000] }),
  "pads of 5000 and a stride of 5000": conv({ pads: [5000, 5000, 5000, 5000], strides: [5000, 5000] }),
  "a transposed convolution that is mostly gaps": simple("ConvTranspose", ["image", "w"], { strides: [100, 100] }),
  "negative pads": conv({ pads: [-1, -1, -20, -20] }),
  "a window of gigabytes": pool({ kernel_shape: [2 ** 31, 2 ** 31] }),
  "a window of nothing": pool({ kernel_shape: [0, 0] }),
  "a window inside the padding": pool({ kernel_shape: [2, 2], pads: [100, 100, 100, 100] }),
  "a window of a million with pads": pool({ kernel_shape: [1000, 1000], pads: [999, 999, 999, 999] }),
  "a chain of 50000": () => of(chain(50_000, "Neg")),
  "a chain of 50000 in reverse": () => of(chain(50_000, "Relu").toReversed()),
  "a chain of 20000 small sums": () => of(list(20_000, (i) => node("Add", [i === 0 ? "x" : `v${i - 1}`, i < 2 ? "x" : `v${i - 2}`], [i === 19_999 ? "y" : `v${i}`]))), // biome-ignore format: one idea
  "200000 nodes": () => of(chain(200_000, "Neg")),
  "a chain of 3000 transposes": () => of(list(3000, (i) => node("Transpose", [i === 0 ? "x" : `v${i - 1}`], [i === 2999 ? "y" : `v${i}`]))),
  "a chain of 3000 softmaxes": () => of(chain(3000, "Softmax")),
  "a chain of 1500 products": () => of(list(1500, (i) => node("MatMul", [i === 0 ? "x" : `v${i - 1}`, "x"], [i === 1499 ? "y" : `v${i}`]))),
  "a cycle": () => of([node("Add", ["x", "b"], ["a"]), node("Neg", ["a"], ["b"]), node("Neg", ["b"], ["y"])]),
  "if in if": () => of(nestedIf(20)),
  "if in if without end": () => of(nestedIf(40)),
  "a loop of a billion": loop("billion", [node("Neg", ["s"], ["t"])]),
  "a loop that doubles": loop("billion", [node("Concat", ["s", "s"], ["t"], { axis: 0 })]),
  "doubling 40 times": () => of(list(40, (i) => node("Concat", i === 0 ? ["x", "x"] : [`v${i - 1}`, `v${i - 1}`], [i === 39 ? "y" : `v${i}`], { axis: 0 }))),
  "adding 60 times to itself": () => of(list(60, (i) => node("Add", i === 0 ? ["x", "x"] : [`v${i - 1}`, `v${i - 1}`], [i === 59 ? "y" : `v${i}`]))),
  "a product of large constants": () => of([node("ConstantOfShape", ["large"], ["a"]), node("MatMul", ["a", "a"], ["y"])]),
  "inputs named alike": () => of([node("Neg", ["x"], ["y"])], { input: [info("x", [4]), info("x", [5])] }),
  "an input and a node named alike": () => of([node("Neg", ["x"], ["x"]), node("Neg", ["x"], ["y"])]),
  "outputs named alike": () => of([node("Neg", ["x"], ["y"])], { output: [info("y", []), info("y", [])] }),
  "names of objects": () => of([node("Neg", ["__proto__"], ["constructor"]), node("Neg", ["constructor"], ["y"])], { input: [info("__proto__", [4])] }), // biome-ignore format: one idea
  "a name of ten megabytes": () => of([node("Neg", ["x"], ["y"]), node("Nog".repeat(3_000_000), ["y"], ["z"])]),
  "an attribute of a million numbers": () => of([node("Transpose", ["x"], ["y"], { perm: list(1_000_000, (i) => i) })]),
  "an empty graph": () => of([], { output: [] }),
  "an output that is an input": () => of([], { output: [info("x", [])] }),
  "an output that is a constant": () => of([], { output: [info("mega", [])] }),
  "an input of a billion": () => of([node("Neg", ["z"], ["y"])], { input: [info("z", [2 ** 30])] }),
  "two million products": () => of([node("MatMul", ["z", "z"], ["y"])], { input: [info("z", [2 ** 21, 4, 4])] }),
  "an input of no size": () => of([node("Neg", ["z"], ["y"])], { input: [info("z", [0, 4])] }),
  "softmax of no size": () => of([node("Softmax", ["z"], ["y"])], { input: [info("z", [4, 0])] }),
  "a product over no depth": () => of([node("MatMul", ["z", "v"], ["y"])], { input: [info("z", [4, 0]), info("v", [0, 4])] }),
  "a mean over nothing": () => of([node("ReduceMean", ["z"], ["y"])], { input: [info("z", [4, 0])] }),
  "a largest of nothing": () => of([node("ReduceMax", ["z"], ["y"])], { input: [info("z", [0])] }),
  "einsum of many letters": () => of([node("Identity", ["x"], ["y"]), { ...node("Einsum", ["x", "x"], ["z"]), attribute: [create(AttributeProtoSchema, { name: "equation", type: 3, s: new TextEncoder().encode("ab,cd->abcd") })] }]), // biome-ignore format: one idea
}; // biome-ignore format: a table

export const HOSTILE: readonly string[] = Object.keys(MODELS);
export const hostileModel = (name: string): Uint8Array => MODELS[name]();
