// Times matrix products of growing size, one operand constant as in a linear layer, in heddle and in turns in onnxruntime, or 16-bit ones and heddle's own float32.
// Options: --dtype f32|bf16|f16 (default f32), --threads N (default 1), --sizes 64,128,…, --device x86|wasm, --isa avx512|avx2, --against onnxruntime|onnxruntime-web, --seconds S, --json.
import { parseArgs } from "node:util";
import { compareOutputs } from "../src/cli/agreement.ts";
import { interleave } from "../src/cli/interleave.ts";
import { createProgress } from "../src/cli/progress.ts";
import { randomInputs, randomNumbers } from "../src/cli/random.ts";
import { type Engine, isInstalled, openHeddle, openRival, type RivalName } from "../src/cli/rivals.ts";
import { geometricMean, rounded, spreadOf } from "../src/cli/statistics.ts";
import { formatTable } from "../src/cli/table.ts";
import { msText, percentText, short, threadsText } from "../src/cli/units.ts";
import { type DeviceOptions, openDevice } from "../src/devices/open.ts";
import { measurePeaks } from "../src/devices/peaks.ts";
import { exportOnnx } from "../src/formats/onnx/export.ts";
import type { DType } from "../src/ir/dtype.ts";
import { HeddleError } from "../src/ir/error.ts";
import { apply } from "../src/ir/graph.ts";
import { fromNumbers, toNumbers } from "../src/ir/tensor.ts";
import { OPS } from "../src/ops/index.ts";
import { constantValue, input } from "../src/ops/source.ts";

const { values: options } = parseArgs({
  options: {
    dtype: { type: "string", default: "f32" },
    threads: { type: "string", default: "1" },
    sizes: { type: "string", default: "64,128,256,512,1024,2048" },
    device: { type: "string" },
    isa: { type: "string" },
    against: { type: "string" },
    seconds: { type: "string", default: "1" },
    json: { type: "boolean", default: false },
  },
});
const DTYPES: readonly DType[] = ["f32", "bf16", "f16"];
const dtype = DTYPES.find((d) => d === options.dtype);
if (!dtype) throw new HeddleError("bad-argument", `bench: --dtype is ${options.dtype}, wanted ${DTYPES.join(" or ")}`);
const threads = Number(options.threads);
const device = { device: options.device, isa: options.isa, threads } as DeviceOptions; // wrong names are openDevice's to refuse
const rivalName = (options.against ?? (options.device === "wasm" ? "onnxruntime-web" : "onnxruntime")) as RivalName; // openRival's to refuse
const rivalText = dtype === "f32" ? rivalName : "heddle f32";
const progress = createProgress();

interface Row {
  readonly n: number;
  /** Medians. */
  readonly ms: number;
  readonly rivalMs: number | null;
  /** The rival's time over ours. */
  readonly ratio: number | null;
  readonly gflops: number;
  /** Of the measured multiply-add rate on as many threads. */
  readonly shareOfPeak: number;
}

/** y (n,n) = a (n,n) · b (n,n), b constant. */
function productModel(n: number, type: DType): Uint8Array {
  const next = randomNumbers(n);
  const a = input("a", { dtype: type, shape: [n, n] });
  const numbers = Float64Array.from({ length: n * n }, () => next() * 2 - 1);
  const b = constantValue(fromNumbers(type, [n, n], numbers), "b");
  const [value] = apply(OPS.get("MatMul")!, [a, b], {}, "MatMul"); // an operator of ONNX
  return exportOnnx({ inputs: [a], outputs: [{ name: "y", value }] });
}

async function peakGflops(): Promise<number> {
  const opened = await openDevice(device);
  try {
    return (await measurePeaks(opened)).fmaGflopsAllCores;
  } finally {
    opened.close();
  }
}

/** Products of random signs cancel: relative to the largest element, float32 sums of 2048 terms stay far below 1e-5, those of rounded numbers within a rounding. */
const TOLERANCE: Readonly<Partial<Record<DType, number>>> = { f32: 1e-5, bf16: 2 ** -7, f16: 2 ** -10 };

async function measure(n: number, peak: number, type: DType): Promise<Row> {
  const model = productModel(n, type);
  const engines: Engine[] = [await openHeddle(model, device)];
  if (type !== "f32") engines.push(await openHeddle(productModel(n, "f32"), device));
  else if (isInstalled(rivalName)) engines.push(await openRival(rivalName, model, { threads }));
  try {
    const types: readonly DType[] = [type, "f32"];
    const bound = engines.map((e, i) => e.bind(randomInputs([{ name: "a", dtype: types[i], shape: [n, n] }], 1)));
    const outputs = await Promise.all(bound.map((b) => b.outputs()));
    const wide = outputs.map((o) => ({ y: fromNumbers("f32", o.y.shape, toNumbers(o.y)) }));
    const wrong = wide
      .slice(1)
      .flatMap((o) => compareOutputs(wide[0], o))
      .find((o) => o.maxScaled === null || o.maxScaled > TOLERANCE[type]!); // one of DTYPES;
    if (wrong) throw new Error(`n = ${n}: heddle and ${rivalText} differ by ${wrong.maxScaled ?? wrong.reason} of the largest element`);
    const times = await interleave(bound, { seconds: Number(options.seconds) });
    const [ms, rivalMs = null] = times.map((t) => rounded(spreadOf(t).median));
    const gflops = (2 * n ** 3) / ms / 1e6;
    return { n, ms, rivalMs, ratio: rivalMs && rounded(rivalMs / ms), gflops: rounded(gflops), shareOfPeak: rounded(gflops / peak) };
  } finally {
    for (const e of engines) await e.close();
  }
}

const peak = await peakGflops();
const rows: Row[] = [];
for (const n of options.sizes.split(",").map(Number)) {
  progress.say(`n = ${n}`);
  rows.push(await measure(n, peak, dtype));
}
progress.clear();
const ratios = rows.flatMap((r) => r.ratio ?? []);
const mean = ratios.length > 0 ? rounded(geometricMean(ratios)) : null;
if (options.json) {
  const report = {
    threads,
    device: options.device ?? "cpu",
    dtype,
    against: rivalText,
    peakGflops: rounded(peak),
    sizes: rows,
    geometricMeanRatio: mean,
  };
  process.stdout.write(`${JSON.stringify(report, null, 2)}\n`);
} else {
  const cells = rows.map((r) => {
    const rival = r.rivalMs === null ? ["–", "–"] : [msText(r.rivalMs), `${short(r.ratio ?? 0)}×`];
    return [`${r.n}`, msText(r.ms), ...rival, short(r.gflops), percentText(r.shareOfPeak)];
  });
  const table = formatTable(["n", dtype === "f32" ? "heddle" : `heddle ${dtype}`, rivalText, "ratio", "GFLOP/s", "of peak"], cells, {
    left: [],
  });
  const last = mean === null ? `${rivalText} is not installed` : `geometric mean ${short(mean)}×`;
  process.stdout.write(`${dtype} (n,n)·(n,n), ${threadsText(threads)}; measured peak ${short(peak)} GFLOP/s\n\n${table}\n\n${last}\n`);
}
