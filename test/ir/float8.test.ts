// Floats of 8 bits: every code and every bfloat16 number, on the host, by compiled kernels and on a GPU, as a search through all codes finds them.
import { describe, expect, it, test } from "vitest";
import { decodeTensor, encodeTensor } from "../../src/formats/onnx/tensor.ts";
import { loadModel } from "../../src/index.ts";
import { DTYPES, type DType, type Float8 } from "../../src/ir/dtype.ts";
import { interpret, loadReader } from "../../src/ir/expr_interpreter.ts";
import { float8ToNumber, numberToFloat8 } from "../../src/ir/float8.ts";
import { apply, type Graph, type Reader } from "../../src/ir/graph.ts";
import { parseGraph } from "../../src/ir/parse.ts";
import { printGraph } from "../../src/ir/print.ts";
import { bf16ToNumber } from "../../src/ir/small_floats.ts";
import { fromNumbers, type TensorData, toNumbers } from "../../src/ir/tensor.ts";
import { OPS } from "../../src/ops/index.ts";
import { Constant, constantValue, input } from "../../src/ops/source.ts";
import { compileForGpu } from "../../src/run/gpu/program.ts";
import { TARGETS } from "../codegen/simd_run.ts";
import { floats, info, model, node } from "../formats/onnx_model.ts";
import { runReader } from "../lower/run_group.ts";
import { useDevice } from "../run/devices.ts";
import { GPU_DEVICES } from "../run/gpu_devices.ts";

/** As ONNX describes the types: S.eeee.fff; what stands for infinity and for no number. */
interface Description {
  readonly fraction: number;
  readonly bias: number;
  readonly infinities: readonly number[];
  readonly nans: readonly number[];
}
const KINDS: Readonly<Record<Float8, Description>> = {
  f8e4m3fn: { fraction: 3, bias: 7, infinities: [], nans: [0x7f, 0xff] },
  f8e4m3fnuz: { fraction: 3, bias: 8, infinities: [], nans: [0x80] },
  f8e5m2: { fraction: 2, bias: 15, infinities: [0x7c, 0xfc], nans: [0x7d, 0x7e, 0x7f, 0xfd, 0xfe, 0xff] },
  f8e5m2fnuz: { fraction: 2, bias: 16, infinities: [], nans: [0x80] },
};
const NAMES = Object.keys(KINDS) as Float8[];

/** Of a code whose exponent and fraction are read from its digits. */
function described({ fraction, bias, infinities, nans }: Description, code: number): number {
  const digits = code.toString(2).padStart(8, "0");
  const sign = digits[0] === "1" ? -1 : 1;
  if (nans.includes(code)) return Number.NaN;
  if (infinities.includes(code)) return sign * Number.POSITIVE_INFINITY;
  const exponent = Number.parseInt(digits.slice(1, 8 - fraction), 2);
  let part = exponent === 0 ? 0 : 1;
  for (let i = 0; i < fraction; i++) part += Number(digits[8 - fraction + i]) * 2 ** -(i + 1);
  return sign * part * 2 ** (Math.max(exponent, 1) - bias);
}

/** ONNX's table of conversions, the nearest number found by looking at all. */
function searched(kind: Description, x: number, saturate: boolean): number {
  const isUz = kind.nans[0] === 0x80;
  const finite = Array.from({ length: 128 }, (_, code) => code).filter((code) => Number.isFinite(described(kind, code)));
  const largest = finite[finite.length - 1];
  const sign = x < 0 || Object.is(x, -0) ? 0x80 : 0;
  if (Number.isNaN(x) || (isUz && Math.abs(x) === Number.POSITIVE_INFINITY)) return isUz ? 0x80 : 0x7f;
  // Beyond the largest number the next one that a larger exponent would give.
  const after = 2 * described(kind, largest) - described(kind, largest - 1);
  const candidates = [...finite.map((code) => [code, described(kind, code)] as const), [largest + 1, after] as const];
  const size = Math.abs(x);
  let [best, distance] = [0, Number.POSITIVE_INFINITY];
  for (const [code, value] of candidates) {
    const d = Math.abs(value - size);
    if (d < distance || (d === distance && code % 2 === 0)) [best, distance] = [code, d];
  }
  if (size >= after) best = largest + 1;
  if (best > largest && !saturate) return isUz ? 0x80 : sign + (kind.infinities[0] ?? 0x7f);
  best = Math.min(best, largest);
  return isUz && best === 0 ? 0 : sign + best;
}

const BF16: TensorData = { dtype: "bf16", shape: [65536], data: Uint16Array.from({ length: 65536 }, (_, i) => i) };
const numbers = toNumbers(BF16);
const wanted = new Map(NAMES.flatMap((name) => [false, true].map((saturate) => [`${name} ${saturate}`, Uint8Array.from(numbers, (x) => searched(KINDS[name], x, saturate))]))); // biome-ignore format: short
const CODES = (dtype: Float8): TensorData => ({ dtype, shape: [256], data: Uint8Array.from({ length: 256 }, (_, i) => i) });

const castNode = (from: TensorData, to: DType, saturate = 1) => apply(OPS.get("Cast")!, [input("x", from)], { to: DTYPES[to].onnx, saturate })[0]; // biome-ignore format: short
const readerOf = (from: TensorData, to: DType, saturate = 1): Reader => {
  const { node } = castNode(from, to, saturate);
  return node.op.lower!([loadReader({ dtype: from.dtype, shape: from.shape }, 0)], node)[0];
};
/** Codes that differ, NaNs counted as equal. */
const differing = (got: TensorData, want: ArrayLike<number>, kind: Description): number[] =>
  [...got.data].map(Number).filter((code, i) => code !== want[i] && !(kind.nans.includes(code) && kind.nans.includes(want[i])));
const halves = (a: readonly number[], b: readonly number[]): boolean => a.length === b.length && a.every((x, i) => Object.is(x, b[i]));

describe.each(NAMES)("%s", (name) => {
  const kind = KINDS[name];
  const all = Array.from({ length: 256 }, (_, code) => described(kind, code));

  it("has the numbers of its description", () => {
    expect(Array.from({ length: 256 }, (_, code) => float8ToNumber(name, code))).toEqual(all);
    expect([...toNumbers(interpret(readerOf(CODES(name), "f32"), [CODES(name)]))]).toEqual(all);
    expect([...toNumbers(interpret(readerOf(CODES(name), "f64"), [CODES(name)]))]).toEqual(all);
  });

  it.each([false, true])("takes the nearest number; saturated: %s", (saturate) => {
    const want = wanted.get(`${name} ${saturate}`)!;
    const host = Array.from(numbers, (x) => numberToFloat8(name, x, saturate));
    expect(host.filter((code, i) => code !== want[i])).toEqual([]);
    expect(differing(interpret(readerOf(BF16, name, Number(saturate)), [BF16]), want, kind)).toEqual([]);
  });

  it("rounds halves to even, and float32 and float64 numbers beside them once", () => {
    const finite = all.slice(0, 128).filter(Number.isFinite);
    const middles = finite.slice(1).map((x, i) => (x + finite[i]) / 2);
    for (const [dtype, part] of [["f32", 2 ** -23], ["f64", 2 ** -50]] as const) {
      const values = middles.flatMap((x) => [x, x * (1 + part), x * (1 - part)]);
      const given = fromNumbers(dtype, [values.length], values);
      const want = Array.from(toNumbers(given), (x) => searched(kind, x, true));
      expect([...interpret(readerOf(given, name), [given]).data]).toEqual(want);
      expect(new Set(want).size).toBe(middles.length + 1);
    } // biome-ignore format: short
  });

  it("comes from and goes to integers, booleans and other types", () => {
    for (const dtype of ["i8", "u8", "i32", "i64", "bool", "f16"] as const) {
      const values = dtype === "bool" ? [0, 1, 1] : dtype === "u8" || dtype === "f16" ? [0, 5, 100] : [0, -5, 100];
      const codes = interpret(readerOf(fromNumbers(dtype, [3], values), name), [fromNumbers(dtype, [3], values)]);
      expect([...codes.data]).toEqual(values.map((x) => searched(kind, x, true)));
      const back = toNumbers(interpret(readerOf(codes, dtype), [codes]));
      expect([...back]).toEqual(values.map((x) => described(kind, searched(kind, x, true))));
    }
  });

  test.each(TARGETS)("compiled for $name", (target) => {
    for (const saturate of [false, true]) {
      const got = runReader(readerOf(BF16, name, Number(saturate)), [BF16], target, 1);
      expect(differing(got, wanted.get(`${name} ${saturate}`)!, kind)).toEqual([]);
    }
    expect(halves([...toNumbers(runReader(readerOf(CODES(name), "f32"), [CODES(name)], target, 1))], all)).toBe(true);
  });

  it("is printed and parsed as its numbers", () => {
    const constant = constantValue(CODES(name));
    const few = constantValue({ ...CODES(name), shape: [4], data: Uint8Array.of(1, 2, 120, name.endsWith("uz") ? 128 : 127) });
    const graph: Graph = { inputs: [], outputs: [constant, few].map((value, i) => ({ name: `y${i}`, value })) };
    expect(printGraph(parseGraph(printGraph(graph, { data: true }), new Map([...OPS, ["Constant", Constant]])), { data: true })).toBe(
      printGraph(graph, { data: true }),
    );
  });
});

describe("files", () => {
  test("ONNX tensors in raw form and as numbers of 32 bits, and models of them", async () => {
    const codes = fromNumbers("f8e4m3fn", [4], [0.5, -1.5, 448, 2 ** -9]);
    const raw = encodeTensor(codes, "w");
    expect(decodeTensor(raw, "w")).toEqual(codes);
    expect(decodeTensor({ ...raw, rawData: new Uint8Array(), int32Data: [...codes.data].map(Number) }, "w")).toEqual(codes);
    const file = model(
      {
        name: "dequantized",
        input: [info("x", [4])],
        output: [info("y", [4])],
        initializer: [{ name: "w", dims: [4n], dataType: 17, rawData: new Uint8Array(raw.rawData) }, floats("scale", [], [2])],
        node: [
          node("DequantizeLinear", ["w", "scale"], ["d"]),
          node("Add", ["x", "d"], ["s"]),
          node("QuantizeLinear", ["s", "scale"], ["q"], { output_dtype: 17 }),
          node("Cast", ["q"], ["y"], { to: 1 }),
        ],
      },
      {},
      21,
    );
    using loaded = await loadModel(file, { device: "cpu" });
    const { y } = await loaded.run({ x: fromNumbers("f32", [4], [0, 0, 0, 100]) });
    expect([...toNumbers(y)]).toEqual([0.5, -1.5, 448, 52]); // (100 + 2⁻⁸) / 2 is 50, whose neighbours are 48 and 52
  });
});

describe("moves of codes", () => {
  test("keep every byte", () => {
    const codes = { ...CODES("f8e5m2"), shape: [16, 16] };
    const { node } = apply(OPS.get("Transpose")!, [input("x", codes)], { perm: [1, 0] })[0];
    const reader = node.op.lower!([loadReader(codes, 0)], node)[0];
    const want = Array.from({ length: 256 }, (_, i) => (i % 16) * 16 + Math.floor(i / 16));
    expect([...interpret(reader, [codes]).data]).toEqual(want);
    for (const target of TARGETS) expect([...runReader(reader, [codes], target, 1).data]).toEqual(want);
  });
  test("fill with a code", () => {
    const value = fromNumbers("f8e4m3fn", [1], [0.5]);
    const shape = constantValue(fromNumbers("i64", [1], [3]));
    const { node } = apply(OPS.get("ConstantOfShape")!, [shape], { value })[0];
    expect([...toNumbers(interpret(node.op.lower!([null], node)[0], []))]).toEqual([0.5, 0.5, 0.5]);
  });
});

describe.skipIf(GPU_DEVICES.length === 0).each(GPU_DEVICES)("on $name", ({ open }) => {
  const device = useDevice(open);
  test.each(NAMES)("%s", async (name) => {
    for (const saturate of [false, true]) {
      const codes = castNode(BF16, name, Number(saturate));
      const moved = apply(OPS.get("Identity")!, [input("codes", CODES(name))], {})[0];
      const back = apply(OPS.get("Cast")!, [moved], { to: DTYPES.f32.onnx })[0];
      const outputs = [codes, back, moved].map((value, i) => ({ name: `y${i}`, value }));
      const program = await compileForGpu({ inputs: [codes.node.inputs[0]!, moved.node.inputs[0]!], outputs }, { device: device() });
      try {
        const got = await program.run({ x: BF16, codes: CODES(name) });
        expect(differing(got.y0, wanted.get(`${name} ${saturate}`)!, KINDS[name])).toEqual([]);
        expect([...toNumbers(got.y1)]).toEqual(Array.from({ length: 256 }, (_, code) => described(KINDS[name], code)));
        expect([...got.y2.data]).toEqual([...CODES(name).data]);
      } finally {
        program.free();
      }
    }
  });
});

test("bfloat16 numbers are the codes' in the table", () => {
  expect(numbers.filter((x, i) => !Object.is(x, bf16ToNumber(i)))).toEqual(new Float64Array());
});
