// Conv to a call of the device's libraries with all of its tail: a product where one tap sees each place once, a convolution elsewhere.
import type { Value } from "../../ir/graph.ts";
import type { GpuKernel, LibraryConv, LibraryGemm, LibraryTail, OperandType } from "../../ir/library_kernel.ts";
import type { SimtParam, SimtTarget } from "../../ir/simt.ts";
import { elementCount, fromNumbers, type TensorData, toNumbers } from "../../ir/tensor.ts";
import { type ConvGeometry, convGeometry } from "../../ops/conv.ts";
import { constantPlace, type KernelCall, type Place, valuePlace } from "../step.ts";
import { isPointwise, orderedWeights } from "./implement_conv.ts";
import { type MatchedTail, matchedTail, withBias } from "./library_tail.ts";
import type { GpuTask } from "./product_calls.ts";

const TYPES: ReadonlySet<string> = new Set(["f32", "f16", "bf16"]);
const isOperand = (dtype: string): dtype is OperandType => TYPES.has(dtype);

/** Multiply-adds from which a library is faster than our kernels, by the type of what is multiplied. */
const LEAST_PRODUCTS: Readonly<Record<OperandType, number>> = { f32: 2 ** 40, f16: 2 ** 27, bf16: 2 ** 27 };

/** Null where our kernels are as fast, or the libraries have no such tail. */
export function libraryConvolution(task: GpuTask): readonly KernelCall<GpuKernel>[] | null {
  const { anchor, inputs, output, target, name } = task;
  const g = convGeometry(anchor);
  const [x, w, bias] = inputs as readonly [Value, Value, Value?]; // neither is ever absent
  const { dtype } = x.type;
  const outType = output.type.dtype;
  if (!isOperand(dtype) || w.type.dtype !== dtype || !isOperand(outType) || !isWorthIt(g, dtype)) return null;
  const isProduct = isPointwise(g) && g.group === 1;
  if (isProduct ? !target.hasGemm : !target.hasConvolutions) return null;
  const found = matchedTail(output);
  const tail = found && withBias(found, bias);
  if (!tail) return null;
  const { weights, calls } = orderedWeights(task, w, g, false);
  const extra: readonly (readonly [OperandType, Place])[] = [
    ...(tail.bias ? [biasOf(tail.bias, g.outChannels, isProduct ? outType : "f32")] : []),
    ...(tail.added ? [[outType, valuePlace(tail.added)] as const] : []),
  ];
  const places = [valuePlace(x), weights.place, ...extra.map(([, place]) => place), valuePlace(output)];
  const elements = [x.type, w.type, ...extra.map((_, i) => ({ shape: i === 0 && tail.bias ? [g.outChannels] : output.type.shape })), output.type].map(({ shape }) => elementCount(shape)); // biome-ignore format: one idea
  const types = [dtype, dtype, ...extra.map(([type]) => type), outType];
  const params = types.map((type, i) => param(i, type, elements[i], i === types.length - 1, target));
  const kernel = { name, params, type: dtype, outType, tail: plain(tail) };
  return [...calls, { kernel: isProduct ? asProduct(kernel, g) : asConvolution(kernel, g), places }];
}

const isWorthIt = (g: ConvGeometry, type: OperandType): boolean =>
  g.layout === "NHWC" &&
  g.group === 1 &&
  (g.kernel.length === 1 || g.kernel.length === 2) &&
  g.batch * elementCount(g.output) * g.outChannels * elementCount(g.kernel) * g.inChannels >= LEAST_PRODUCTS[type];

const plain = ({ hasBias, hasAdded, isRelu }: MatchedTail): LibraryTail => ({ hasBias, hasAdded, isRelu });

/** One number for each channel, in a library's type. */
function biasOf(bias: TensorData, channels: number, type: OperandType): readonly [OperandType, Place] {
  const numbers = toNumbers(bias);
  const all = numbers.length === channels ? numbers : new Float64Array(channels).fill(numbers[0]);
  return [type, constantPlace(fromNumbers(type, [channels], all).data)];
}

const param = (number: number, dtype: OperandType, elements: number, isOutput: boolean, target: SimtTarget): SimtParam => ({
  name: isOutput ? "out" : `in${number}`,
  dtype,
  elements,
  bytes: elements * target.storedBytes[dtype]!, // the device keeps all three
  access: isOutput ? "write" : "read",
});

type Common = Pick<LibraryConv, "name" | "params" | "type" | "outType" | "tail">;

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

const asConvolution = (kernel: Common, g: ConvGeometry): LibraryConv => ({
  ...kernel,
  library: "conv",
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
