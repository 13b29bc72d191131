// Conv to a call of the device's libraries with all of its tail: a product where one tap sees each place once, a convolution elsewhere.
import type { TensorType, Value } from "../../ir/graph.ts";
import type { GpuKernel, LibraryConv, LibraryGemm, LibraryTail, OperandType } from "../../ir/library_kernel.ts";
import type { SimtParam, SimtTarget } from "../../ir/simt.ts";
import { elementCount, fromNumbers, type TensorData, toNumbers } from "../../ir/tensor.ts";
import { lowerSimtReaders } from "../../lower/simt_group.ts";
import { type ConvGeometry, convGeometry } from "../../ops/conv.ts";
import { constantPlace, type KernelCall, type Place, valuePlace } from "../step.ts";
import { foldedStrides } from "./folded_strides.ts";
import { isPointwise, orderedWeights } from "./implement_conv.ts";
import { type MatchedTail, matchedTail, withBias } from "./library_tail.ts";
import type { GpuTask } from "./product_calls.ts";
import { reordered } from "./weights.ts";

const TYPES: ReadonlySet<string> = new Set(["f32", "f16", "bf16"]);
const isOperand = (dtype: string): dtype is OperandType => TYPES.has(dtype);

/** Multiply-adds from which a library is faster than our kernels. Float32 that must not be rounded is not for it: its plans for that are slower nearly everywhere. */
const LEAST_PRODUCTS = 2 ** 27;
/** What matrix units want channels to be multiples of where float32 is rounded. */
const ROUNDED_CHANNELS = 4;

/** Null where our kernels are as fast, or the libraries have no such tail. */
export function libraryConvolution(task: GpuTask): readonly KernelCall<GpuKernel>[] | null {
  const { anchor, inputs, output, target, name, roundsF32 } = task;
  const g = convGeometry(anchor);
  const [x, w, bias] = inputs as readonly [Value, Value, Value?]; // neither is ever absent
  const { dtype } = x.type;
  const outType = output.type.dtype;
  if (!isOperand(dtype) || w.type.dtype !== dtype || !isOperand(outType) || !isWorthIt(g) || (dtype === "f32" && !roundsF32)) return null;
  const isProduct = isPointwise(g) && g.group === 1;
  if (isProduct ? !target.hasGemm : !target.hasConvolutions) return null;
  const found = matchedTail(output);
  const tail = found && withBias(found, bias);
  if (!tail) return null;
  const operands = isProduct ? asTheyLie(task, x, w, g) : (folded(task, x, w, g) ?? asTheyLie(task, x, w, g));
  if (dtype === "f32" && [operands.g.inChannels, g.outChannels].some((count) => count % ROUNDED_CHANNELS !== 0)) return null;
  const extra: readonly Operand[] = [
    ...(tail.bias ? [biasOf(tail.bias, g.outChannels, isProduct ? outType : "f32")] : []),
    ...(tail.added ? [{ type: outType, elements: elementCount(output.type.shape), place: valuePlace(tail.added) }] : []),
  ];
  const result: Operand = { type: outType, elements: elementCount(output.type.shape), place: valuePlace(output) };
  const all = [operands.image, operands.weights, ...extra, result];
  const params = all.map(({ type, elements }, i) => param(i, type, elements, i === all.length - 1, target));
  const common = { name, params, type: dtype, outType, roundsF32: dtype === "f32", tail: plain(tail) };
  const kernel = isProduct ? asProduct(common, g) : asConvolution(common, operands.g);
  return [...operands.calls, { kernel, places: all.map(({ place }) => place) }];
}

/** A parameter of a library's kernel. */
interface Operand {
  readonly type: OperandType;
  readonly elements: number;
  readonly place: Place;
}

/** What is convolved, after calls that prepare it. */
interface Operands {
  readonly image: Operand;
  readonly weights: Operand;
  readonly g: ConvGeometry;
  readonly calls: readonly KernelCall<GpuKernel>[];
}

const operand = ({ dtype, shape }: TensorType, place: Place): Operand => ({
  type: dtype as OperandType,
  elements: elementCount(shape),
  place,
}); // checked before

function asTheyLie(task: GpuTask, x: Value, w: Value, g: ConvGeometry): Operands {
  const { weights, calls } = orderedWeights(task, w, g, false);
  return { image: operand(x.type, valuePlace(x)), weights: operand(w.type, weights.place), g, calls };
}

/** With blocks as channels, where matrix units want more channels than there are. */
function folded(task: GpuTask, x: Value, w: Value, g: ConvGeometry): Operands | null {
  const made = foldedStrides(x.type, w.type, g);
  if (!made) return null;
  const { target, shared, name } = task;
  const { type } = made.image;
  const kernel = shared(`blocks ${JSON.stringify(g)} ${type.dtype}`, `${name}_blocks`, (n) =>
    lowerSimtReaders(n, [made.image], [x.type], target),
  );
  const place: Place = { k: "temporary", id: 2, bytes: kernel.params[1].bytes };
  const { place: weights, calls } = reordered(task, w, made.weights, `blocks ${JSON.stringify(g)}`);
  return {
    image: operand(type, place),
    weights: operand(made.weights.type, weights),
    g: made.g,
    calls: [...calls, { kernel, places: [valuePlace(x), place] }],
  };
}

const isWorthIt = (g: ConvGeometry): boolean =>
  g.layout === "NHWC" &&
  g.group === 1 &&
  (g.kernel.length === 1 || g.kernel.length === 2) &&
  g.batch * elementCount(g.output) * g.outChannels * elementCount(g.kernel) * g.inChannels >= LEAST_PRODUCTS;

const plain = ({ hasBias, hasAdded, isRelu }: MatchedTail): LibraryTail => ({ hasBias, hasAdded, isRelu });

/** One number for each channel, in a library's type. */
function biasOf(bias: TensorData, channels: number, type: OperandType): Operand {
  const numbers = toNumbers(bias);
  const all = numbers.length === channels ? numbers : new Float64Array(channels).fill(numbers[0]);
  return { type, elements: channels, place: constantPlace(fromNumbers(type, [channels], all).data) };
}

const param = (number: number, dtype: OperandType, elements: number, isOutput: boolean, target: SimtTarget): SimtParam => ({
  name: isOutput ? "out" : `in${number}`,
  dtype,
  elements,
  bytes: elements * target.storedBytes[dtype]!, // the device keeps all three
  access: isOutput ? "write" : "read",
});

type Common = Pick<LibraryConv, "name" | "params" | "roundsF32" | "tail"> & { readonly type: OperandType; readonly outType: OperandType };

/** Images as rows of channels, weights as (output channel, channel). */
const asProduct = (kernel: Common, g: ConvGeometry): LibraryGemm => ({
  ...kernel,
  library: "gemm",
  batch: 1,
  m: g.batch * elementCount(g.output),
  n: g.outChannels,
  k: g.inChannels,
  isLeftTransposed: false,
  isRightTransposed: true,
  leftStride: 0,
  rightStride: 0,
});

const placesOf = (g: ConvGeometry) => ({
  images: g.batch,
  inChannels: g.inChannels,
  outChannels: g.outChannels,
  groups: g.group,
  input: g.input,
  output: g.output,
  kernel: g.kernel,
  strides: g.strides,
  dilations: g.dilations,
  padsBegin: g.padsBegin,
  padsEnd: g.padsEnd,
});

/** The library's convolution of a geometry, with what else its call is told. */
export const asConvolution = (kernel: Omit<LibraryConv, keyof ReturnType<typeof placesOf> | "library">, g: ConvGeometry): LibraryConv => ({
  ...kernel,
  library: "conv",
  ...placesOf(g),
});
