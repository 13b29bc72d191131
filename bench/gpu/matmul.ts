// Times every schedule of our matrix product kernels on a GPU, and its library, by replayed launches, and says how far sampled elements are from float64.
// Options: --device cuda|webgpu, --dtype f32,tf32,bf16,f16,i8,f8 (tf32: float32 that the library may round; i8, f8: by the library only, turned nt), --sizes MxNxK,…, --turned nn,nt,tn,tt (t: that operand lies transposed), --splits 1,4, --only plain,fragments,few,library,chosen (what programs take of our kernels),
// --repeat N, --json.
import { parseArgs } from "node:util";
import { formatTable } from "../../src/cli/table.ts";
import { short } from "../../src/cli/units.ts";
import type { GpuDevice } from "../../src/devices/gpu.ts";
import { isGpu, openAnyDevice } from "../../src/devices/open.ts";
import type { DType } from "../../src/ir/dtype.ts";
import { HeddleError } from "../../src/ir/error.ts";
import { isFloat8 } from "../../src/ir/float8.ts";
import { divIndex, modIndex } from "../../src/ir/index_expr.ts";
import { type GpuKernel, type LibraryGemm, NO_TAIL, type OperandType } from "../../src/ir/library_kernel.ts";
import type { SimtParam } from "../../src/ir/simt.ts";
import { planProduct, productKernel } from "../../src/kernels/simt/choose.ts";
import { usesFragments } from "../../src/kernels/simt/choose_fragments.ts";
import { fewRowsProduct } from "../../src/kernels/simt/few_rows.ts";
import { fragmentProduct, fragmentSchedules } from "../../src/kernels/simt/fragment_product.ts";
import { stridedOperand } from "../../src/kernels/simt/operand.ts";
import { PLAIN_SCHEDULES, plainBytes, plainProduct } from "../../src/kernels/simt/plain_product.ts";
import type { Product } from "../../src/kernels/simt/product.ts";
import { noTail } from "../../src/kernels/simt/tail.ts";
import { lowerSimtReaders } from "../../src/lower/simt_group.ts";
import { float8Gemm } from "../../src/run/gpu/library_float8.ts";
import { partsReader } from "../../src/run/gpu/product_calls.ts";
import { fill, replayed, type Timed, worstError } from "./launches.ts";

const { values: options } = parseArgs({
  options: {
    device: { type: "string", default: "cuda" },
    dtype: { type: "string", default: "bf16,f32" },
    sizes: { type: "string", default: "8192x8192x8192,4096x4096x4096,1024x1024x1024,512x512x8192,1x4096x4096,8x4096x4096" },
    turned: { type: "string", default: "nn,nt" },
    splits: { type: "string", default: "1" },
    only: { type: "string" },
    repeat: { type: "string", default: "10" },
    json: { type: "boolean", default: false },
  },
});

const only = options.only?.split(",");
const wants = (kind: string): boolean => !only || only.includes(kind);

/** Types as the options name them. */
type Named = DType | "tf32" | "f8";

interface Row extends Timed {
  readonly dtype: Named;
  readonly size: string;
  readonly turned: string;
  readonly schedule: string;
  readonly splits: number;
  readonly isChosen: boolean;
  readonly tflops: number;
  /** Largest difference of sampled elements from float64, of the largest element. */
  readonly error: number;
}

function productOf(dtype: DType, [m, n, k]: readonly number[], turned: string, splits: number): Product {
  const [isLeft, isRight] = [turned[0] === "t", turned[1] === "t"];
  return {
    left: stridedOperand(dtype, m * k, [], { extent: m, stride: isLeft ? 1 : k }, { extent: k, stride: isLeft ? m : 1 }),
    right: stridedOperand(dtype, k * n, [], { extent: n, stride: isRight ? k : 1 }, { extent: k, stride: isRight ? 1 : n }),
    batch: 1,
    splits,
    tail: noTail({ dtype: splits === 1 ? dtype : "f32", shape: [splits, m, n] }),
    place: (part, row, column) => [modIndex(part, splits), row, column].map((at, i) => (i === 0 && splits === 1 ? divIndex(at, 1) : at)),
  };
}

/** What a product is stored as. */
const sumsOf = (type: DType): DType => (type === "i8" ? "i32" : isFloat8(type) ? "bf16" : type);

/** Types that only libraries multiply. */
const isByLibrary = (type: DType): boolean => type === "i8" || isFloat8(type);

/** The library's product. */
function libraryKernel(name: string, { left, right }: Product, turned: string, { target }: GpuDevice, roundsF32: boolean): LibraryGemm {
  const { rows: m, depth: k } = left;
  if (left.dtype === "f8e4m3fn") return float8Gemm(name, { m, n: right.rows, k, outType: "bf16" }, target);
  const type = left.dtype as OperandType | "i8"; // of those that libraries multiply
  const outType = sumsOf(type) as OperandType | "i32"; // of those
  const n = right.rows;
  const param = (of: string, elements: number, access: SimtParam["access"], dtype: OperandType | "i8" | "i32" = type): SimtParam => ({ name: of, dtype, elements, bytes: elements * target.storedBytes[dtype]!, access }); // biome-ignore format: short
  const params = [param("a", m * k, "read"), param("b", k * n, "read"), param("out", m * n, "write", outType)];
  const [isLeftTransposed, isRightTransposed] = [turned[0] === "t", turned[1] === "t"];
  return { library: "gemm", name, params, type, outType, roundsF32, tail: NO_TAIL, batch: 1, m, n, k, isLeftTransposed, isRightTransposed, leftStride: 0, rightStride: 0 }; // biome-ignore format: one idea
}

/** Kernels by the names of their schedules. */
function* schedules(
  product: Product,
  turned: string,
  device: GpuDevice,
  roundsF32: boolean,
): Generator<readonly [name: string, generate: (name: string) => GpuKernel]> {
  const { target } = device;
  if (wants("library") && target.hasGemm && product.splits === 1)
    yield ["library", (name) => libraryKernel(name, product, turned, device, roundsF32)];
  if (roundsF32 || isByLibrary(product.left.dtype)) return;
  if (product.left.rows <= 8 && product.splits === 1 && (wants("few") || wants("chosen")))
    yield ["few rows", (name) => fewRowsProduct(name, product, target)];
  if ((wants("fragments") || wants("chosen")) && usesFragments(product, target))
    for (const s of fragmentSchedules(product, target))
      yield [
        `fragments ${s.bm}×${s.bn}×${s.bk} by ${s.wm}×${s.wn}, ${s.stages} stages`,
        (name) => fragmentProduct(name, product, s, target),
      ];
  if (wants("plain") || wants("chosen"))
    for (const s of PLAIN_SCHEDULES)
      if (plainBytes(s) <= Math.min(target.sharedBytes, 48 << 10))
        yield [
          `plain ${s.bm}×${s.bn}×${s.bk * s.slices} by ${s.tm}×${s.tn}, ${s.slices} slices`,
          (name) => plainProduct(name, product, s, target),
        ];
}

async function measure(device: GpuDevice, type: Named, size: string, turned: string, splits: number): Promise<Row[]> {
  const roundsF32 = type === "tf32";
  const dtype = roundsF32 ? "f32" : type === "f8" ? "f8e4m3fn" : type;
  if (isByLibrary(dtype) && turned !== "nt") return []; // as matrix units want bytes
  const [m, n, k] = size.split("x").map(Number);
  const product = productOf(dtype, [m, n, k], turned, splits);
  const plan = isByLibrary(dtype) ? null : planProduct(product, device.target);
  const chosen = plan?.splits === splits ? productKernel("chosen", product, plan, device.target) : null;
  const [a, b] = [fill(device, dtype, m * k, 1), fill(device, dtype, k * n, 2)];
  const bytes = device.target.storedBytes[sumsOf(dtype)] ?? 4;
  const [parts, out] = [device.alloc(4 * splits * m * n), device.alloc(bytes * m * n)];
  const one = device.alloc(4);
  device.write(one, 0, "f32", Float32Array.of(1));
  const rows: Row[] = [];
  try {
    const samples = Array.from({ length: 64 }, (_, i) => ({
      row: (i * 7919 + (i & 1 ? m - 1 : 0)) % m,
      column: (i * 104729 + (i & 2 ? n - 1 : 0)) % n,
    }));
    const want = samples.map(({ row, column }) => {
      let sum = 0;
      for (let p = 0; p < k; p++)
        sum += a.values[turned[0] === "t" ? p * m + row : row * k + p] * b.values[turned[1] === "t" ? column * k + p : p * n + column];
      return sum;
    });
    for (const [schedule, generate] of schedules(product, turned, device, roundsF32)) {
      const kernels = [generate("product")];
      const isChosen = chosen !== null && "body" in kernels[0] && JSON.stringify(kernels[0].body) === JSON.stringify(chosen.body);
      if (only?.includes("chosen") && schedule !== "library" && !isChosen) continue;
      const range = (memory: typeof out) => ({ memory, offset: 0, bytes: memory.bytes });
      const scales = isFloat8(dtype) ? [one, one] : [];
      const launches = [{ kernel: 0, args: [a.memory, b.memory, ...scales, splits === 1 ? out : parts].map(range) }];
      if (splits > 1) {
        const type = { dtype: "f32", shape: [splits, m, n] } as const;
        kernels.push(lowerSimtReaders("joined", [partsReader({ dtype, shape: [m, n] }, splits, 0)], [type], device.target));
        launches.push({ kernel: 1, args: [parts, out].map(range) });
      }
      const timed = await replayed(device, kernels, launches, Number(options.repeat));
      const error = await worstError(device, out, sumsOf(dtype), m * n, samples.map(({ row, column }) => row * n + column), want); // biome-ignore format: short
      rows.push({ dtype: type, size, turned, schedule, splits, isChosen, ...timed, tflops: (2 * m * n * k) / timed.ms / 1e9, error });
    }
  } finally {
    for (const memory of [a.memory, b.memory, one, parts, out]) memory.free();
  }
  return rows;
}

const device = await openAnyDevice({ device: options.device as "cuda" }); // wrong names are openAnyDevice's to refuse
if (!isGpu(device)) throw new HeddleError("bad-argument", `bench: --device is ${options.device}, wanted cuda or webgpu`);
const rows: Row[] = [];
for (const size of options.sizes.split(","))
  for (const dtype of options.dtype.split(",") as Named[])
    for (const turned of options.turned.split(","))
      for (const splits of options.splits.split(",").map(Number)) {
        const done = await measure(device, dtype, size, turned, splits);
        rows.push(...done);
        const best = done.reduce<Row | null>((a, r) => (a && a.ms <= r.ms ? a : r), null);
        if (best) process.stderr.write(`${size} ${dtype} ${turned} splits ${splits}: ${best.schedule} ${short(best.tflops)} TFLOP/s\n`);
      }
if (options.json) process.stdout.write(`${JSON.stringify({ device: device.description, rows }, null, 1)}\n`);
else {
  const cells = rows.map((r) => [r.size, `${r.dtype} ${r.turned}`, `${r.schedule}${r.splits > 1 ? `, ${r.splits} parts` : ""}${r.isChosen ? " *" : ""}`, r.ms.toFixed(4), short(r.tflops), r.error.toExponential(1)]); // biome-ignore format: short
  const table = formatTable(["m×n×k", "type", "schedule (*: chosen)", "ms", "TFLOP/s", "error"], cells, { left: [0, 1, 2] });
  process.stdout.write(`${device.description}\n\n${table}\n`);
}
await device.close();
