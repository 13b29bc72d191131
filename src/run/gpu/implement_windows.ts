// Depthwise convolutions and pools of largest elements, channels innermost, to windows over each channel by itself.
import { loadReader } from "../../ir/expr_interpreter.ts";
import type { Node, Reader, Value } from "../../ir/graph.ts";
import { constIndex, unlinearIndex } from "../../ir/index_expr.ts";
import type { SimtKernel } from "../../ir/simt.ts";
import { elementCount } from "../../ir/tensor.ts";
import { type ChannelWindows, channelWindows } from "../../kernels/simt/channel_windows.ts";
import { convGeometry } from "../../ops/conv.ts";
import { poolGeometry } from "../../ops/pool.ts";
import { type KernelCall, type Place, valuePlace } from "../step.ts";
import { type GpuImplementation, type GpuTask, type ProductTask, tailOf } from "./product_calls.ts";
import { reordered } from "./weights.ts";

const isFloat = ({ type: { dtype } }: Value): boolean => dtype === "f32" || dtype === "f16" || dtype === "bf16";

/** Null: not depthwise, or channels are not innermost. */
export const implementDepthwise: GpuImplementation = (task) => {
  const node: Node = task.anchor;
  const g = convGeometry(node);
  const [x, w, bias] = task.inputs as readonly [Value, Value, Value?]; // neither is ever absent
  const isDepthwise = g.group > 1 && g.group === g.inChannels && g.group === g.outChannels;
  if (!isDepthwise || g.layout !== "NHWC" || elementCount(x.type.shape) === 0 || ![x, w, ...(bias ? [bias] : [])].every(isFloat))
    return null;
  const given = loadReader(w.type, 0);
  const ordered: Reader = {
    type: { dtype: w.type.dtype, shape: [...g.kernel, g.group] },
    at: (index) => given.at([index[index.length - 1], constIndex(0), ...index.slice(0, -1)]),
  };
  const weights = reordered(task, w, ordered, "depthwise");
  const windows = { ...g, dtype: x.type.dtype, images: g.batch, channels: g.group, weights: w.type.dtype };
  const of = bias && { value: bias, axis: node.outputs[0].type.shape.length - 1 };
  return [...weights.calls, windowCall(task, windows, [valuePlace(x), weights.place], of)];
};

/** Null where places are asked for as well, or channels are not innermost. */
export const implementMaxPool: GpuImplementation = (task) => {
  const node: Node = task.anchor;
  const g = poolGeometry(node);
  const [x] = task.inputs as readonly [Value]; // never absent
  if (node.outputs.length > 1 || g.layout !== "NHWC" || !isFloat(x) || elementCount(task.output.type.shape) === 0) return null;
  return [windowCall(task, { ...g, dtype: x.type.dtype, images: g.batch, weights: null }, [valuePlace(x)])];
};

function windowCall(
  task: GpuTask,
  windows: Omit<ChannelWindows, "tail" | "place">,
  operands: readonly Place[],
  bias?: ProductTask["bias"],
): KernelCall<SimtKernel> {
  const { epilogueInputs, epilogueKey, shared, name, target, output } = task;
  const tail = tailOf(task, bias);
  const place: ChannelWindows["place"] = (_, row, channel) => [...unlinearIndex(row, [windows.images, ...windows.output]), channel];
  const key = `windows ${JSON.stringify(windows)} ${bias ? JSON.stringify(bias.value.type) : ""} ${epilogueKey}`;
  const kernel = shared(key, name, (n) => channelWindows(n, { ...windows, tail, place }, target));
  return { kernel, places: [...operands, ...[...(bias ? [bias.value] : []), ...epilogueInputs, output].map(valuePlace)] };
}
