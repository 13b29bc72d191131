// The shape of ResNet-50 as a graph: random weights, batch normalizations folded into the convolutions.
import { randomNumbers } from "../../src/cli/random.ts";
import type { DType } from "../../src/ir/dtype.ts";
import { apply, type Graph, type Value } from "../../src/ir/graph.ts";
import { elementCount } from "../../src/ir/tensor.ts";
import { OPS } from "../../src/ops/index.ts";
import { constantValue, input } from "../../src/ops/source.ts";

/** Blocks of each stage, and what its inner convolutions make. */
const STAGES = [
  { blocks: 3, width: 64 },
  { blocks: 4, width: 128 },
  { blocks: 6, width: 256 },
  { blocks: 3, width: 512 },
] as const;
const EXPANSION = 4;
const CLASSES = 1000;
/** How much a block adds to what it was given: sums of sixteen stay near one. */
const BRANCH = 0.3;

const op = (name: string, inputs: readonly Value[], attrs: object = {}): Value => apply(OPS.get(name)!, inputs, { ...attrs }, name)[0]; // ONNX's

/** Input x: (batch, 224, 224, 3), channels innermost, of the given type; output y: 1,000 numbers an image. */
export function resnet50(batch: number, type: DType): Graph {
  const next = randomNumbers(1);
  const numbers = (shape: readonly number[], scale: number): Value =>
    constantValue({ dtype: "f32", shape, data: Float32Array.from({ length: elementCount(shape) }, () => (next() * 2 - 1) * scale) });
  const conv = (x: Value, outChannels: number, kernel: number, stride: number, gain: number): Value => {
    const channels = x.type.shape[1];
    const scale = gain * Math.sqrt(6 / (channels * kernel * kernel)); // He's: a ReLU keeps the size of what passes
    const weights = numbers([outChannels, channels, kernel, kernel], scale);
    const pad = (kernel - 1) / 2;
    return op("Conv", [x, weights, numbers([outChannels], 0.1)], { strides: [stride, stride], pads: [pad, pad, pad, pad] });
  };
  const relu = (x: Value): Value => op("Relu", [x]);
  const x = input("x", { dtype: type, shape: [batch, 224, 224, 3] });
  const image = op("Transpose", [x], { perm: [0, 3, 1, 2] });
  let value = relu(conv(type === "f32" ? image : op("Cast", [image], { to: FLOAT }), 64, 7, 2, 1));
  value = op("MaxPool", [value], { kernel_shape: [3, 3], strides: [2, 2], pads: [1, 1, 1, 1] });
  for (const [stage, { blocks, width }] of STAGES.entries())
    for (let block = 0; block < blocks; block++) {
      const stride = stage > 0 && block === 0 ? 2 : 1;
      const inner = relu(conv(relu(conv(value, width, 1, 1, 1)), width, 3, stride, 1));
      const branch = conv(inner, EXPANSION * width, 1, 1, BRANCH);
      value = relu(op("Add", [branch, block === 0 ? conv(value, EXPANSION * width, 1, stride, Math.SQRT1_2) : value]));
    }
  const features = op("Flatten", [op("GlobalAveragePool", [value])], { axis: 1 });
  const { shape } = features.type;
  return { inputs: [x], outputs: [{ name: "y", value: op("MatMul", [features, numbers([shape[1], CLASSES], Math.sqrt(3 / shape[1]))]) }] };
}

/** ONNX's number of float32. */
const FLOAT = 1;
