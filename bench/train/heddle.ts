// The benchmark's networks in heddle: a step, the forward pass alone, and the gradients alone, each one program.
import { heddleVersion } from "../../src/cli/packages.ts";
import type { DeviceOptions } from "../../src/devices/open.ts";
import { crossEntropy, linear } from "../../src/nn/index.ts";
import { Adam, SGD } from "../../src/optim/index.ts";
import {
  evaluate,
  fromArray,
  type JitOptions,
  jit,
  Parameter,
  setDevice,
  type Tensor,
  valueAndGrad,
  zeros,
} from "../../src/tensor/index.ts";
import type { Learner } from "./learner.ts";
import { ADAM, type Problem, SIDE } from "./networks.ts";

export interface HeddleLearner extends Learner {
  /** The loss alone. */
  forward(at: number): Promise<number>;
  /** Loss and gradients, which stay in the device's memory. */
  gradients(at: number): Promise<number>;
  /** That the step's tensors take, without parameters. */
  arenaBytes(): Promise<number>;
}

export async function openHeddle(problem: Problem, device: DeviceOptions, precision?: JitOptions["precision"]): Promise<HeddleLearner> {
  setDevice(device);
  const parameters = parametersOf(problem);
  const inputs = problem.batches.map(({ images, labels }) => [
    fromArray(images, [problem.batch, 1, SIDE, SIDE]),
    fromArray(labels, [problem.batch]),
  ]);
  await evaluate(...inputs.flat());
  const lossOf = (x: Tensor, y: Tensor): Tensor => crossEntropy(forwardOf(problem, parameters, x), y);
  const optimizer =
    problem.optimizer === "adam"
      ? new Adam(parameters, { learningRate: problem.learningRate, betas: [ADAM.beta1, ADAM.beta2], epsilon: ADAM.epsilon })
      : new SGD(parameters, { learningRate: problem.learningRate });
  const step = jit(
    (x: Tensor, y: Tensor) => {
      const { value, grads } = valueAndGrad(() => lossOf(x, y), parameters);
      optimizer.step(grads);
      return value;
    },
    { precision },
  );
  const forward = jit(lossOf, { precision });
  const held: Parameter[] = parameters.map((p) => new Parameter(zeros(p.shape), { trainable: false }));
  const gradients = jit(
    (x: Tensor, y: Tensor) => {
      const { value, grads } = valueAndGrad(() => lossOf(x, y), parameters);
      for (const [i, grad] of grads.entries()) held[i].value = grad;
      return value;
    },
    { precision },
  );
  const on =
    (f: (x: Tensor, y: Tensor) => Tensor) =>
    (at: number): Promise<number> => {
      const [x, y] = inputs[at % inputs.length];
      return f(x, y).item();
    };
  return {
    name: precision ? `heddle ${precision}` : "heddle",
    version: heddleVersion(),
    step: on(step),
    forward: on(forward),
    gradients: on(gradients),
    arenaBytes: () => step.arenaBytes(),
    close: () => {
      for (const program of [step, forward, gradients]) program.dispose();
    },
  };
}

/** Weight and bias of each layer that has them. */
function parametersOf({ layers, weights }: Problem): Parameter[] {
  const withWeights = layers.filter((layer) => layer.k === "dense" || layer.k === "conv");
  return withWeights.flatMap((layer, i) => {
    const kernel = layer.k === "conv" ? [3, 3] : [];
    return [
      new Parameter(fromArray(weights[i].weight, [layer.outputs, layer.inputs, ...kernel])),
      new Parameter(fromArray(weights[i].bias, [layer.outputs])),
    ];
  });
}

function forwardOf({ layers }: Problem, parameters: readonly Parameter[], images: Tensor): Tensor {
  const rest = parameters.values();
  const next = (): Tensor => rest.next().value!.value; // as many as the layers take
  return layers.reduce((x, layer) => {
    switch (layer.k) {
      case "dense":
        return linear(x, next(), next());
      case "conv":
        return x.conv(next(), { bias: next(), padding: 1 });
      case "relu":
        return x.relu();
      case "pool":
        return x.maxPool(2);
      case "flatten":
        return x.flatten(1);
      default:
        return layer satisfies never;
    }
  }, images);
}
