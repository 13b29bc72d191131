// A strided convolution of few channels as one of more channels without strides: each block of an image becomes the channels of one position.
// Matrix units multiply multiples of 8 channels; an image has 3, and with strides of 2 its blocks have 12, which are filled up with zeros.
import { both, constant, type Expr, select, within } from "../../ir/expr.ts";
import { loadReader } from "../../ir/expr_interpreter.ts";
import type { Reader, TensorType } from "../../ir/graph.ts";
import { addIndex, clampIndex, divIndex, type Index, modIndex, mulIndex, unlinearIndex } from "../../ir/index_expr.ts";
import { elementCount } from "../../ir/tensor.ts";
import type { ConvGeometry } from "../../ops/conv.ts";

export interface FoldedStrides {
  /** Of x and of w, their input 0 each: the blocks, channels innermost, and (output channel, tap, channel). */
  readonly image: Reader;
  readonly weights: Reader;
  readonly g: ConvGeometry;
}

/** Channels come in multiples of this for matrix units. */
const MULTIPLE = 8;
/** Channels of a block: 64 images of 224×224 and a window of 7×7 took cuDNN 135 µs with 32, 224 with 16, 440 with a multiple of 8 and no blocks, 790 as they are. */
const CHANNELS = 32;

/** Null: not for these sizes. */
export function foldedStrides(x: TensorType, w: TensorType, g: ConvGeometry): FoldedStrides | null {
  const { strides, padsBegin, kernel, output, batch, inChannels, outChannels, group, dilations } = g;
  const full = inChannels * elementCount(strides);
  if (g.layout !== "NHWC" || group !== 1 || inChannels % MULTIPLE === 0 || full > CHANNELS || dilations.some((d) => d !== 1)) return null;
  // Tap t of the old window is place (t − pad) mod stride of the block (t − pad) div stride.
  const pads = padsBegin.map((p, i) => Math.ceil(p / strides[i]));
  const taps = kernel.map((k, i) => Math.floor((k - 1 - padsBegin[i]) / strides[i]) + pads[i] + 1);
  const input = g.input.map((d, i) => Math.ceil(d / strides[i]));
  const padsEnd = output.map((o, i) => o - 1 + taps[i] - input[i] - pads[i]);
  if (padsEnd.some((p) => p < 0)) return null;
  const given = { image: loadReader(x, 0), weights: loadReader(w, 0) };
  /** Where a channel is in its block, and which of x it is. */
  const parts = (channel: Index): { place: readonly Index[]; c: Index } => ({
    place: unlinearIndex(clampIndex(divIndex(channel, inChannels), 0, elementCount(strides) - 1), strides),
    c: modIndex(channel, inChannels),
  });
  const where = (conditions: readonly Expr[], e: Expr): Expr => select(conditions.reduce(both), e, constant(e.dtype, 0));
  return {
    image: {
      type: { dtype: x.dtype, shape: [batch, ...input, CHANNELS] },
      at([n, ...rest]) {
        const [block, channel] = [rest.slice(0, -1), rest[rest.length - 1]];
        const { place, c } = parts(channel);
        const at = block.map((q, i) => addIndex(mulIndex(q, strides[i]), place[i]));
        const inside = at.map((q, i) => within(q, 0, g.input[i]));
        const value = given.image.at([n, ...at.map((q, i) => clampIndex(q, 0, g.input[i] - 1)), c]);
        return where([within(channel, 0, full), ...inside], value);
      },
    },
    weights: {
      type: { dtype: w.dtype, shape: [outChannels, ...taps, CHANNELS] },
      at([m, ...rest]) {
        const [block, channel] = [rest.slice(0, -1), rest[rest.length - 1]];
        const { place, c } = parts(channel);
        const at = block.map((a, i) => addIndex(mulIndex(addIndex(a, -pads[i]), strides[i]), addIndex(place[i], padsBegin[i])));
        const inside = at.map((t, i) => within(t, 0, kernel[i]));
        return where([within(channel, 0, full), ...inside], given.weights.at([m, c, ...at.map((t, i) => clampIndex(t, 0, kernel[i] - 1))])); // biome-ignore format: short
      },
    },
    g: { ...g, inChannels: CHANNELS, input, kernel: taps, strides: strides.map(() => 1), padsBegin: pads, padsEnd },
  };
}
