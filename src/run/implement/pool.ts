// MaxPool and AveragePool to sliding-window kernels on channels-last images.
import type { Node, Value } from "../../ir/graph.ts";
import { elementCount } from "../../ir/tensor.ts";
import { wholeImage } from "../../kernels/conv.ts";
import { type SlideShape, slideKernel } from "../../kernels/slide.ts";
import { plainAxis, type WindowAxis } from "../../kernels/window.ts";
import { type PoolGeometry, poolGeometry } from "../../ops/pool.ts";
import { type AnchorTask, type Implementation, type KernelCall, sharedKernel, tailPlaces, valuePlace } from "../step.ts";

function windowAxes(g: PoolGeometry): readonly [WindowAxis, WindowAxis] | null {
  const axes = g.input.map((inputs, i) => ({
    outputs: g.output[i],
    inputs,
    taps: g.kernel[i],
    stride: g.strides[i],
    offset: -g.padsBegin[i],
    dilation: g.dilations[i],
  }));
  if (axes.length > 2) return null;
  return axes.length === 2 ? [axes[0], axes[1]] : [plainAxis(1), axes[0]];
}

function pool(task: AnchorTask, combine: (g: PoolGeometry, node: Node) => SlideShape["combine"] | null): readonly KernelCall[] | null {
  const geometry = poolGeometry(task.anchor);
  const [input] = task.inputs as readonly [Value]; // a pool's input is never absent
  const axes = windowAxes(geometry);
  const how = combine(geometry, task.anchor);
  if (!axes || !how || geometry.layout !== "NHWC" || input.type.dtype !== "f32") return null;
  if (elementCount(task.output.type.shape) === 0 || task.anchor.outputs.length > 1) return null;
  const [y, x] = axes;
  const output = wholeImage(y.outputs, x.outputs);
  const shape: SlideShape = { batch: geometry.batch, channels: geometry.channels, y, x, combine: how, hasBias: false, output };
  const kernel = sharedKernel(task, `slide ${JSON.stringify(shape)} ${task.epilogueKey}`, () =>
    slideKernel(task.name, shape, task.epilogue, task.target, task.threads),
  );
  return [{ kernel, places: [valuePlace(input), ...tailPlaces(task)] }];
}

export const implementMaxPool: Implementation = (task) => pool(task, () => "max");

/** Whether the last windows reach past the padded input (ceil_mode): their averages count fewer elements. */
const overhangs = (g: PoolGeometry): boolean =>
  g.input.some((input, i) => {
    const end = (g.output[i] - 1) * g.strides[i] + (g.kernel[i] - 1) * g.dilations[i] + 1;
    return end > input + g.padsBegin[i] + g.padsEnd[i];
  });

export const implementAveragePool: Implementation = (task) =>
  pool(task, (g, node) => (node.attrs.count_include_pad ? (overhangs(g) ? null : "meanOfAll") : "mean"));
