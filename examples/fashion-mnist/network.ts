// The network: bytes of pictures (n, 1, 28, 28) → logits (n, 10).
import { nn, type Tensor } from "heddle/train";

/** Mean and deviation of all pixels of the training pictures, of 255. */
const [MEAN, DEVIATION] = [0.286, 0.353];

export class ClothesNet extends nn.Module {
  private readonly features: nn.Sequential;
  private readonly classifier: nn.Linear;
  private readonly dropout: nn.Dropout;

  constructor(random: nn.RandomStream, dropout: number) {
    super();
    const block = (inputs: number, outputs: number) => [
      new nn.Conv2d(inputs, outputs, 3, { key: random, padding: 1, bias: false }),
      new nn.BatchNorm2d(outputs),
      new nn.ReLU(),
    ];
    this.features = new nn.Sequential(
      ...block(1, 32),
      new nn.MaxPool(2), // 14 × 14
      ...block(32, 64),
      ...block(64, 64),
      new nn.MaxPool(2), // 7 × 7
      ...block(64, 128),
      ...block(128, 128),
      new nn.GlobalAvgPool(),
    );
    this.dropout = new nn.Dropout(dropout, random);
    this.classifier = new nn.Linear(128, 10, { key: random });
  }

  forward(images: Tensor): Tensor {
    const features = this.features.forward(images.cast("f32").sub(255 * MEAN).div(255 * DEVIATION)); // biome-ignore format: a formula
    return this.classifier.forward(this.dropout.forward(features.flatten(1)));
  }
}
