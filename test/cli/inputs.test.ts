// Texts of the command line to shapes and tensors: sizes, raw numbers, NumPy files, pictures.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { deviceOptions, listOption, namedShapes, numberOption, shapeTexts } from "../../src/cli/options.ts";
import { type PictureOptions, pictureTensor } from "../../src/cli/picture.ts";
import { randomInputs } from "../../src/cli/random.ts";
import { parseFile, readInputs } from "../../src/cli/read_input.ts";
import { writePng } from "../../src/formats/image.ts";
import { writeNpy } from "../../src/formats/npy.ts";
import { writeNpz } from "../../src/formats/npz.ts";
import type { OnnxValueInfo } from "../../src/formats/onnx/read.ts";
import { fromNumbers, toNumbers } from "../../src/ir/tensor.ts";
import { testFolder } from "./sample_models.ts";

const x: OnnxValueInfo = { name: "x", dtype: "f32", shape: [2, 2] };
const y: OnnxValueInfo = { name: "y", dtype: "f32", shape: [2] };
const plain: PictureOptions = { mean: [0], std: [1], isBgr: false };

describe("options", () => {
  const shapes = (shape: unknown, inputs = [x]) => namedShapes(shapeTexts({ shape }), inputs);
  test("shapes", () => {
    expect(shapes("x=1x3x48x320")).toEqual({ x: [1, 3, 48, 320] });
    expect(shapes("2x2")).toEqual({ x: [2, 2] });
    expect(shapes(7)).toEqual({ x: [7] }); // the parser makes numbers of what looks like one
    expect(shapes("x=")).toEqual({ x: [] });
    expect(shapes(["x=2x2", "y=2"], [x, y])).toEqual({ x: [2, 2], y: [2] });
    expect(shapes("a=b=2", [{ ...x, name: "a=b" }])).toEqual({ "a=b": [2] });
    expect(() => shapes("2x2", [x, y])).toThrow("2 inputs (x, y)");
    expect(() => shapes(["x=1", "x=2"])).toThrow("twice");
    expect(() => shapes("x=-1")).toThrow("--shape: got x=-1");
  });
  test("numbers and lists", () => {
    expect(numberOption({ runs: "12" }, "runs", { min: 1 })).toBe(12);
    expect(numberOption({}, "runs", { min: 1 })).toBeUndefined();
    expect(() => numberOption({ runs: 1.5 }, "runs", { min: 1, isInteger: true })).toThrow("--runs: got 1.5");
    expect(() => numberOption({ outputDir: "" }, "outputDir", { min: 1 })).toThrow("--output-dir");
    expect(listOption({ against: ["a,b", "c"] }, "against")).toEqual(["a", "b", "c"]);
    expect(() => deviceOptions({ device: "wasm", isa: "avx2" })).toThrow("--isa");
  });
});

describe("files", () => {
  const folder = testFolder("inputs");
  const at = (file: string) => join(folder, file);
  const values = [1, 2, 3, 4];
  const tensor = fromNumbers("f32", [2, 2], values);
  writeFileSync(at("x.npy"), writeNpy(tensor));
  writeFileSync(at("both.npz"), writeNpz({ x: tensor, y: fromNumbers("f32", [2], [5, 6]) }));
  writeFileSync(at("x.bin"), new Uint8Array(Float32Array.from(values).buffer));
  const read = (texts: string[], inputs: OnnxValueInfo[] = [x]) => readInputs(texts, inputs, plain);

  test.each(["x.npy", "both.npz", "x.bin:f32[2,2]", "x.bin:f32[2x2]"])("%s", async (file) => {
    expect((await read([`x=${at(file)}`])).x).toEqual(tensor);
    expect((await read([at(file)])).x).toEqual(tensor);
  });
  test("an archive without a name gives all inputs", async () => {
    expect(Object.keys(await read([at("both.npz")], [x, y]))).toEqual(["x", "y"]);
  });
  test("what does not fit is refused", async () => {
    await expect(read([at("x.npy")], [x, y])).rejects.toThrow("say which");
    await expect(read([`x=${at("x.npy")}`, `x=${at("x.npy")}`])).rejects.toThrow("twice");
    await expect(read([`x=${at("x.bin")}:f32[3]`])).rejects.toThrow("16 bytes, f32[3] has 12");
    await expect(read([`x=${at("x.bin")}:f99[4]`])).rejects.toThrow("wanted FILE:TYPE[SIZES]");
    await expect(read([`z=${at("x.npy")}`])).rejects.toThrow("the model has no z");
    await expect(read([at("both.npz")], [{ ...x, name: "q" }])).rejects.toThrow("no array of that name, only x, y");
  });
  test("names of inputs go first", () => {
    expect(parseFile("a=b=c.npy", ["a=b"], "--input")).toEqual({ name: "a=b", file: "c.npy" });
    expect(parseFile("./odd=name.npy", ["x"], "--input")).toEqual({ name: null, file: "./odd=name.npy" });
    expect(() => parseFile("y_0.tmp_0=y.npy", ["y_1.tmp_0"], "--output")).toThrow("the model has no y_0.tmp_0, only y_1.tmp_0");
  });
  test("pictures", async () => {
    const image = { width: 2, height: 1, data: Uint8Array.of(255, 0, 51, 0, 102, 255) };
    writeFileSync(at("p.png"), await writePng(image));
    const { p } = await read([`p=${at("p.png")}`], [{ name: "p", dtype: "f32", shape: [1, 3, "h", "w"] }]);
    expect(p.shape).toEqual([1, 3, 1, 2]);
    expect([...toNumbers(p)].map((v) => Math.round(v * 255))).toEqual([255, 0, 0, 102, 51, 255]);
  });
});

describe("pictures", () => {
  const image = { width: 2, height: 1, data: Uint8Array.of(255, 0, 51, 0, 102, 255) };
  const tensorOf = (shape: OnnxValueInfo["shape"], options: Partial<PictureOptions> = {}, dtype: OnnxValueInfo["dtype"] = "f32") =>
    pictureTensor(image, { name: "p", dtype, shape }, { ...plain, ...options });
  test("channels last where the input has them there", () => {
    expect([...toNumbers(tensorOf([1, 1, 2, 3]))]).toHaveLength(6);
    expect(tensorOf([1, null, null, 3]).shape).toEqual([1, 1, 2, 3]);
  });
  test("blue first, mean and deviation", () => {
    const t = tensorOf([1, 3, 1, 2], { isBgr: true, mean: [0.5], std: [0.5] });
    expect([...toNumbers(t)].map((v) => Math.round(v * 100) / 100)).toEqual([-0.6, 1, -1, -0.2, 1, -1]);
  });
  test("integers get the pixels", () => expect([...tensorOf([1, 3, 1, 2], { mean: [9] }, "u8").data]).toEqual([255, 0, 0, 102, 51, 255]));
  test("one channel is grey; sizes are resampled", () => {
    const grey = tensorOf([1, 1, 1, 1]);
    expect(grey.data[0]).toBeCloseTo((0.299 * 127.5 + 0.587 * 51 + 0.114 * 153) / 255, 5);
  });
  test("what is no picture's shape is refused", () => {
    expect(() => tensorOf([2, 2])).toThrow("wanted 4 axes");
    expect(() => tensorOf([4, 3, 1, 2])).toThrow("batch of 1");
    expect(() => tensorOf([1, 7, 5, 9])).toThrow("7 channels");
  });
});

test("equal seeds give equal inputs", () => {
  const types = [
    { name: "a", dtype: "f32", shape: [100] },
    { name: "b", dtype: "i64", shape: [100] },
  ] as const;
  const first = randomInputs(types, 5);
  expect(randomInputs(types, 5)).toEqual(first);
  expect(randomInputs(types, 6)).not.toEqual(first);
  const a = toNumbers(first.a);
  expect(Math.min(...a)).toBeGreaterThanOrEqual(-1);
  expect(Math.max(...a)).toBeLessThan(1);
  expect(new Set(toNumbers(first.b))).toEqual(new Set([0, 1]));
});
