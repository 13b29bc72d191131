// Transposed convolutions with strides, where windows overlap: ordinary products, one for all places of the result that as many taps meet; no zero is multiplied.
import { loadReader } from "../../ir/expr_interpreter.ts";
import type { Reader, Value } from "../../ir/graph.ts";
import { addIndex, type Index, modIndex, mulIndex, unlinearIndex } from "../../ir/index_expr.ts";
import type { SimtKernel } from "../../ir/simt.ts";
import { elementCount } from "../../ir/tensor.ts";
import { type Image, type Phases, phaseOperand } from "../../kernels/simt/image_operand.ts";
import { stridedOperand } from "../../kernels/simt/operand.ts";
import type { ConvGeometry } from "../../ops/conv.ts";
import { type KernelCall, valuePlace } from "../step.ts";
import { type GpuTask, productCalls } from "./product_calls.ts";
import { reordered } from "./weights.ts";

/** Place o = stride · j + f of an axis is met by the taps r, r + stride, …, where r = (f + pad) mod stride. Runs of r with as many taps and places. */
function phasesOf({ kernel, strides, padsBegin, output }: ConvGeometry, axis: number): readonly Phases[] {
  const [k, stride, pad] = [kernel[axis], strides[axis], padsBegin[axis]];
  const runs: Phases[] = [];
  for (let r = 0; r < stride; r++) {
    const f = (r - pad + stride * Math.ceil(pad / stride)) % stride;
    const [taps, places] = [Math.ceil((k - r) / stride), Math.ceil((output[axis] - f) / stride)];
    const last = runs[runs.length - 1];
    if (last?.taps === taps && last.places === places) runs[runs.length - 1] = { ...last, count: last.count + 1 };
    else if (places > 0) runs.push({ first: r, count: 1, pad, stride, taps, places });
  }
  return runs;
}

/** Null: holes in the window, or between windows. */
export function phases(task: GpuTask, g: ConvGeometry, image: Image): readonly KernelCall<SimtKernel>[] | null {
  const isDense = g.dilations.every((d) => d === 1) && g.kernel.every((k, i) => k >= g.strides[i]);
  if (!isDense || g.strides.every((s) => s === 1)) return null;
  const axes = g.kernel.map((_, i) => phasesOf(g, i));
  const all = axes.reduce<Phases[][]>((lists, runs) => lists.flatMap((list) => runs.map((run) => [...list, run])), [[]]);
  return all.flatMap((list, i) => phaseCalls({ ...task, name: `${task.name}_${i}` }, g, image, list));
}

function phaseCalls(task: GpuTask, g: ConvGeometry, image: Image, list: readonly Phases[]): readonly KernelCall<SimtKernel>[] {
  const [x, w, bias] = task.inputs as readonly [Value, Value, Value?]; // neither is ever absent
  const [channels, perGroup] = [image.channels, g.outChannels / g.group];
  const counts = list.map((p) => p.count);
  const taps = list.map((p) => p.taps);
  const places = list.map((p) => p.places);
  const batch = elementCount(counts) * g.group;
  const depth = elementCount(taps) * channels;
  const given = loadReader(w.type, 0);
  const ordered: Reader = {
    type: { dtype: w.type.dtype, shape: [...counts, g.group, perGroup, ...taps, channels] },
    at(index) {
      const [group, m, ...back] = index.slice(list.length);
      const tap = list.map(({ first, stride }, i) => addIndex(addIndex(index[i], first), mulIndex(back[i], stride)));
      return given.at([addIndex(mulIndex(group, channels), back[list.length]), m, ...tap]);
    },
  };
  const weights = reordered(task, w, ordered, `phases ${JSON.stringify(list)} ${g.group}`);
  const operand = stridedOperand(w.type.dtype, batch * perGroup * depth, [{ extent: batch, stride: perGroup * depth }], { extent: perGroup, stride: depth }, { extent: depth, stride: 1 }); // biome-ignore format: short
  const placeOf = ({ first, pad, stride }: Phases, pattern: Index, j: Index): Index =>
    addIndex(mulIndex(j, stride), modIndex(addIndex(pattern, first - pad + stride * Math.ceil(pad / stride)), stride));
  return [
    ...weights.calls,
    ...productCalls(task, {
      left: { operand: phaseOperand(image, g.input, list), place: valuePlace(x) },
      right: { operand, place: weights.place },
      batch,
      place: (number, row, column) => {
        const patterns = unlinearIndex(number, [...counts, g.group]);
        const [n, ...position] = unlinearIndex(row, [g.batch, ...places]);
        const at = list.map((p, i) => placeOf(p, patterns[i], position[i]));
        const channel = addIndex(mulIndex(patterns[list.length], perGroup), column);
        return g.layout === "NHWC" ? [n, ...at, channel] : [n, channel, ...at];
      },
      bias: bias && { value: bias, axis: g.layout === "NHWC" ? list.length + 1 : 1 },
      key: `phases ${JSON.stringify([image, g.input, g.output, list, w.type.dtype])}`,
    }),
  ];
}
