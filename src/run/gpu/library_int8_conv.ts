// Convolutions of signed bytes to calls of the device's library.
import type { Node } from "../../ir/graph.ts";
import { type LibraryConv, NO_TAIL } from "../../ir/library_kernel.ts";
import type { SimtParam, SimtTarget } from "../../ir/simt.ts";
import { elementCount } from "../../ir/tensor.ts";
import { convGeometry } from "../../ops/conv.ts";
import { constantOf } from "../../ops/source.ts";
import { constantPlace, valuePlace } from "../step.ts";
import type { DirectImplementation } from "./direct.ts";
import { asConvolution } from "./library_conv.ts";

/** Multiply-adds from which a library is worth its start. */
const LEAST_PRODUCTS = 2 ** 27;
/** What matrix units want channels to be multiples of. */
const CHANNELS = 16;

/** Also where channels are not innermost yet. */
export function fitsInt8Conv(node: Node, _: unknown, { hasConvolutions, opensFragments }: SimtTarget): boolean {
  const g = convGeometry(node);
  if (!hasConvolutions || !opensFragments || g.group !== 1 || g.kernel.length !== 2 || !constantOf(node.inputs[1])) return false;
  const products = g.batch * elementCount(g.output) * g.outChannels * elementCount(g.kernel) * g.inChannels;
  return g.inChannels % CHANNELS === 0 && g.outChannels % CHANNELS === 0 && products >= LEAST_PRODUCTS;
}

export const int8ConvCalls: DirectImplementation = (node, name, { storedBytes }) => {
  const g = convGeometry(node);
  if (g.layout !== "NHWC") return null;
  const [x, w, ...lists] = node.inputs.filter((v) => v !== null);
  const [out] = node.outputs;
  const operands = [x, w, ...lists, out];
  const param = (i: number): SimtParam => {
    const { dtype, shape } = operands[i].type;
    const elements = elementCount(shape);
    const isOutput = i === operands.length - 1;
    return { name: isOutput ? "out" : `in${i}`, dtype, elements, bytes: elements * storedBytes[dtype]!, access: isOutput ? "write" : "read" }; // biome-ignore format: such devices keep all of them
  };
  const kernel = asConvolution(
    {
      name,
      params: operands.map((_, i) => param(i)),
      type: "i8",
      outType: out.type.dtype as LibraryConv["outType"], // of those that the pass asks for
      roundsF32: false,
      tail: { ...NO_TAIL, hasBias: true },
    },
    g,
  );
  return [{ kernel, places: [valuePlace(x), constantPlace(channelsInnermost(node)), ...lists.map(valuePlace), valuePlace(out)] }];
};

/** Weights (output channel, channel, tap) as (output channel, tap, channel). */
function channelsInnermost({ inputs: [, w] }: Node): Int8Array {
  const { data, shape } = constantOf(w)!; // fitsInt8Conv has seen it
  const [outChannels, channels, ...kernel] = shape;
  const taps = elementCount(kernel);
  const out = new Int8Array(data.length);
  for (let m = 0; m < outChannels; m++)
    for (let c = 0; c < channels; c++)
      for (let t = 0; t < taps; t++) out[(m * taps + t) * channels + c] = data[(m * channels + c) * taps + t] as number;
  return out;
}
