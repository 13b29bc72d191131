// A small residual network (He et al. 2016): bytes of pictures (n, 1, 28, 28) → logits (n, 10).
import { BatchNorm2d, Conv2d, GlobalAvgPool, Linear, Module, RandomStream } from "../../src/nn/index.ts";
import type { Tensor } from "../../src/tensor/index.ts";

/** Mean and deviation of all pixels of Fashion-MNIST's training pictures, of 255. */
const [MEAN, DEVIATION] = [0.286, 0.353];
/** Channels of the stages; each halves the picture's sides. */
const WIDTHS = [32, 64, 128];

/** Two convolutions, and the input beside them; where sizes change, the input goes through a 1×1 convolution. */
class Block extends Module {
  private readonly conv1: Conv2d;
  private readonly bn1: BatchNorm2d;
  private readonly conv2: Conv2d;
  private readonly bn2: BatchNorm2d;
  private readonly shortcut: Conv2d | null;
  private readonly shortcutBn: BatchNorm2d | null;

  constructor(inputs: number, outputs: number, stride: number, key: RandomStream) {
    super();
    const isSame = inputs === outputs && stride === 1;
    this.conv1 = new Conv2d(inputs, outputs, 3, { key, stride, padding: 1, bias: false });
    this.bn1 = new BatchNorm2d(outputs);
    this.conv2 = new Conv2d(outputs, outputs, 3, { key, padding: 1, bias: false });
    this.bn2 = new BatchNorm2d(outputs);
    this.shortcut = isSame ? null : new Conv2d(inputs, outputs, 1, { key, stride, bias: false });
    this.shortcutBn = isSame ? null : new BatchNorm2d(outputs);
  }

  forward(x: Tensor): Tensor {
    const inner = this.bn1.forward(this.conv1.forward(x)).relu();
    const beside = this.shortcut && this.shortcutBn ? this.shortcutBn.forward(this.shortcut.forward(x)) : x;
    return this.bn2.forward(this.conv2.forward(inner)).add(beside).relu();
  }
}

export class ResNet extends Module {
  private readonly stem: Conv2d;
  private readonly stemBn: BatchNorm2d;
  private readonly blocks: readonly Block[];
  private readonly pool = new GlobalAvgPool();
  private readonly head: Linear;

  /** `depth` blocks a stage: 1 is ResNet-8, 2 ResNet-14. */
  constructor({ seed, depth = 1 }: { readonly seed: number; readonly depth?: number }) {
    super();
    const key = new RandomStream(seed);
    this.stem = new Conv2d(1, WIDTHS[0], 3, { key, padding: 1, bias: false });
    this.stemBn = new BatchNorm2d(WIDTHS[0]);
    this.blocks = WIDTHS.flatMap((width, stage) =>
      Array.from({ length: depth }, (_, i) =>
        i === 0 ? new Block(WIDTHS[Math.max(0, stage - 1)], width, 2, key) : new Block(width, width, 1, key),
      ),
    );
    this.head = new Linear(WIDTHS[WIDTHS.length - 1], 10, { key });
  }

  forward(images: Tensor): Tensor {
    const x = images.cast("f32").sub(255 * MEAN).div(255 * DEVIATION); // biome-ignore format: a formula
    const features = this.blocks.reduce((h, block) => block.forward(h), this.stemBn.forward(this.stem.forward(x)).relu());
    return this.head.forward(this.pool.forward(features).flatten(1));
  }
}
