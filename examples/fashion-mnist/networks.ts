// The networks: bytes of pictures (n, 1, 28, 28) → logits (n, 10).
import {
  BatchNorm2d,
  Conv2d,
  Dropout,
  Flatten,
  type Layer,
  Linear,
  MaxPool,
  Module,
  RandomStream,
  ReLU,
  Sequential,
} from "../../src/nn/index.ts";
import type { Tensor } from "../../src/tensor/index.ts";

export const NETWORKS = ["mlp", "cnn"] as const;
export type NetworkName = (typeof NETWORKS)[number];

/** Mean and deviation of all pixels of the training pictures, of 255. */
const [MEAN, DEVIATION] = [0.286, 0.353];

export class Network extends Module {
  private readonly net: Sequential;

  constructor(
    layers: readonly Layer[],
    /** Multiplications and additions for one picture, forward. */
    readonly flops: number,
    /** What drawing goes on from; null: nothing is drawn. */
    readonly random: RandomStream | null = null,
  ) {
    super();
    this.net = new Sequential(...layers);
  }

  forward(images: Tensor): Tensor {
    return this.net.forward(images.cast("f32").sub(255 * MEAN).div(255 * DEVIATION)); // biome-ignore format: a formula
  }
}

function mlp(key: RandomStream): Network {
  const sizes = [784, 512, 512, 10];
  const layers: Layer[] = [new Flatten()];
  for (const [i, outputs] of sizes.slice(1).entries()) {
    if (i) layers.push(new ReLU());
    layers.push(new Linear(sizes[i], outputs, { key }));
  }
  return new Network(layers, sizes.slice(1).reduce((n, outputs, i) => n + 2 * sizes[i] * outputs, 0)); // biome-ignore format: short
}

function cnn(key: RandomStream): Network {
  const block = (inputs: number, outputs: number) => [
    new Conv2d(inputs, outputs, 3, { key, padding: 1, bias: false }),
    new BatchNorm2d(outputs),
    new ReLU(),
  ];
  const layers = [
    ...block(1, 32),
    ...block(32, 32),
    new MaxPool(2),
    ...block(32, 64),
    ...block(64, 64),
    new MaxPool(2),
    new Flatten(),
    new Linear(64 * 49, 128, { key }),
    new ReLU(),
    new Dropout(0.4, key),
    new Linear(128, 10, { key }),
  ];
  const flops = 2 * (9 * (784 * (32 + 32 * 32) + 196 * (32 * 64 + 64 * 64)) + 64 * 49 * 128 + 1280);
  return new Network(layers, flops, key);
}

export function networkOf(name: NetworkName, seed: number): Network {
  const key = new RandomStream(seed);
  switch (name) {
    case "mlp":
      return mlp(key);
    case "cnn":
      return cnn(key);
    default:
      return name satisfies never;
  }
}
