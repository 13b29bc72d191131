// ConvTranspose to kernels: convolutions of each phase of the output, patches where windows do not overlap, one convolution backwards where the stride is 1.
import type { ConvShape } from "../../kernels/conv.ts";
import { convKernel, scheduleConv } from "../../kernels/conv.ts";
import { packConvWeights, type WeightStrides } from "../../kernels/conv_weights.ts";
import { plainAxis, type WindowAxis } from "../../kernels/window.ts";
import { convTransposeGeometry } from "../../ops/conv_transpose.ts";
import { constantPlace, type Implementation, type KernelCall, packedPlace, sharedKernel, tailPlaces } from "../step.ts";
import {
  type Axis,
  type ConvTask,
  constantFloats,
  convTask,
  depthwiseCalls,
  directCalls,
  directShape,
  inFloat32,
  pairedCalls,
  pairedShape,
  rowsOfPixels,
  winogradCalls,
} from "./conv_task.ts";

/** Every phase (output position modulo stride) of a transposed convolution is a convolution with some of the taps. */
export const implementConvTranspose: Implementation = (task) => {
  const c = convTask(task, convTransposeGeometry(task.anchor));
  if (!c) return null;
  return canPair(c) ? phases(c) : inFloat32(c, (f) => patches(f) ?? winograd(f) ?? phases(f));
};

/** Whether all phases are convolutions on pairs of bf16. */
const canPair = ({ task, input, geometry }: ConvTask): boolean =>
  input.type.dtype === "bf16" && task.target.dotsBf16 === true && (geometry.inChannels / geometry.group) % 2 === 0;

/** More phases than this are evaluated in JavaScript: each is a kernel, and a file may ask for strides of millions. FCN-32s has 32². */
const MAX_PHASES = 1024;

function phases(c: ConvTask): readonly KernelCall[] | null {
  const { y, x } = c;
  if (Math.min(y.stride, y.output) * Math.min(x.stride, x.output) > MAX_PHASES) return null;
  const calls: KernelCall[] = [];
  for (let py = 0; py < Math.min(y.stride, y.output); py++)
    for (let px = 0; px < Math.min(x.stride, x.output); px++) calls.push(...phase(c, phaseAxis(y, py), phaseAxis(x, px), py, px));
  return calls;
}

/** Windows that do not overlap: each input pixel makes a patch of the output, whose rows (tap x, out channel) are contiguous. */
function patches({ task, geometry, places, constants, bias, y, x }: ConvTask): readonly KernelCall[] | null {
  const isTiling = [y, x].every((a) => a.kernel === a.stride && a.pad === 0 && a.dilation === 1 && a.output === a.input * a.stride);
  const biasNumbers = bias ? constantFloats(bias) : undefined;
  if (!isTiling || geometry.group !== 1 || !constants || (bias && !biasNumbers)) return null;
  const { inChannels, outChannels, batch } = geometry;
  const { target, threads, epilogue } = task;
  const shape = (ky: number): ConvShape => ({
    batch,
    groups: 1,
    inChannels,
    outChannels: x.kernel * outChannels,
    y: plainAxis(y.input),
    x: plainAxis(x.input),
    input: rowsOfPixels(geometry),
    output: { height: y.output, width: x.input, y0: ky, yStep: y.kernel, x0: 0, xStep: 1 },
    hasBias: bias !== null,
  });
  const rowBias = biasNumbers && Float32Array.from({ length: x.kernel * outChannels }, (_, i) => biasNumbers[i % outChannels]);
  return Array.from({ length: y.kernel }, (_, ky) => {
    const at = (_: number, o: number, c: number): number =>
      ((c * outChannels + (o % outChannels)) * y.kernel + ky) * x.kernel + Math.floor(o / outChannels);
    const tile = scheduleConv(shape(ky), target);
    const kernel = sharedKernel(task, `conv ${JSON.stringify(shape(ky))} ${task.epilogueKey}`, () =>
      convKernel(task.name, shape(ky), tile, epilogue, target, threads),
    );
    const packed = packedPlace((out) => packConvWeights(constants, at, shape(ky), tile, target, out));
    return { kernel, places: [places.input, packed, ...(rowBias ? [constantPlace(rowBias)] : []), ...tailPlaces(task)] };
  });
}

/** A phase of a transposed axis: the window that its taps are, and their numbers in the weights: first + step·i. */
interface PhaseAxis {
  readonly window: WindowAxis;
  readonly first: number;
  readonly step: number;
}

/** Output o = phase + stride·i gets input (o + pad − tap·dilation) / stride from the taps for which that is whole. */
function phaseAxis(a: Axis, phase: number): PhaseAxis {
  const taps = Array.from({ length: a.kernel }, (_, t) => t).filter((t) => (phase + a.pad - t * a.dilation) % a.stride === 0);
  const position = (t: number): number => (phase + a.pad - t * a.dilation) / a.stride;
  const dilation = taps.length > 1 ? position(taps[1]) - position(taps[0]) : 1;
  const outputs = Math.ceil((a.output - phase) / a.stride);
  // From none: as from one that lies outside of the input everywhere.
  if (taps.length === 0) return { window: { ...plainAxis(outputs), inputs: a.input, offset: a.input }, first: 0, step: 1 };
  const window = { outputs, inputs: a.input, taps: taps.length, stride: 1, offset: position(taps[0]), dilation };
  return { window, first: taps[0], step: taps.length > 1 ? taps[1] - taps[0] : 1 };
}

/** Weights (in channels, out channels of a group, tap y, tap x), from some taps on. */
function weightStrides({ geometry, y, x }: ConvTask, py: Omit<PhaseAxis, "window">, px: Omit<PhaseAxis, "window">): WeightStrides {
  const outChannels = geometry.outChannels / geometry.group;
  const inChannels = geometry.inChannels / geometry.group;
  const taps = y.kernel * x.kernel;
  return {
    base: py.first * x.kernel + px.first,
    group: inChannels * outChannels * taps,
    out: taps,
    in: outChannels * taps,
    y: py.step * x.kernel,
    x: px.step,
  };
}

function phase(c: ConvTask, py: PhaseAxis, px: PhaseAxis, y0: number, x0: number): KernelCall[] {
  const { geometry, y, x } = c;
  const { group, inChannels, outChannels } = geometry;
  const output = { height: y.output, width: x.output, y0, yStep: y.stride, x0, xStep: x.stride };
  const windows = { y: py.window, x: px.window, output };
  const strides = weightStrides(c, py, px);
  if (group === inChannels && group === outChannels) return depthwiseCalls(c, windows, strides);
  const shape = directShape(c, windows);
  const paired = pairedShape(c, shape);
  return paired ? pairedCalls(c, paired, strides) : directCalls(c, shape, strides, c.places.input);
}

/** 3×3 windows of stride 1: a convolution with the taps backwards. */
function winograd(c: ConvTask): readonly KernelCall[] | null {
  const backwards = { first: 2, step: -1 };
  return winogradCalls(c, { y: 2 - c.y.pad, x: 2 - c.x.pad }, weightStrides(c, backwards, backwards));
}
