// A training script: pictures of clothes (Fashion-MNIST) → a network that tells them apart.
import { existsSync } from "node:fs";
import { join } from "node:path";
import { data, defineTraining, HeddleError, loadSafetensors, nn, optim, prune, type Tensor, type TensorBatch } from "heddle/train";
import { ClothesNet } from "./network.ts";

/** Where Debian's package puts the files. */
const FOLDER = "/usr/share/datasets/fashion-mnist";

/** 60,000 pictures to learn from ("train"), or 10,000 to be judged by ("t10k"). */
function openPictures(folder: string, part: "train" | "t10k"): Promise<data.IdxDataset> {
  const [images, labels] = ["images-idx3", "labels-idx1"].map((kind) => join(folder, `${part}-${kind}-ubyte.gz`));
  if (!existsSync(images))
    throw new HeddleError("missing", `${images} is not there; apt-get install dataset-fashion-mnist, or name a folder with --folder`);
  return data.IdxDataset.open({ images, labels });
}

/** The labels alone, or half the labels and half what a network says that was trained before. */
async function lossOf(model: ClothesNet, random: nn.RandomStream, labelSmoothing: number, teacher: string) {
  const byLabel = (logits: Tensor, label: Tensor): Tensor => nn.crossEntropy(logits, label, { labelSmoothing });
  if (!teacher) return ({ image, label }: TensorBatch) => byLabel(model.forward(image), label);
  const dense = new ClothesNet(random, 0);
  dense.loadStateDict((await loadSafetensors(teacher)).tensors);
  dense.eval();
  return ({ image, label }: TensorBatch) => {
    const logits = model.forward(image);
    const said = nn.klDivergence(logits.logSoftmax(1), dense.forward(image).softmax(1));
    return byLabel(logits, label).add(said).mul(0.5);
  };
}

export default defineTraining({
  name: "fashion-mnist",
  epochs: 16,
  batch: 128,
  options: {
    rate: { default: 0.004, help: "Largest learning rate; of a pruned network, times density ** -0.6" },
    decay: { default: 0.02, help: "Weight decay" },
    smoothing: { default: 0.1, help: "Label smoothing" },
    dropout: { default: 0.1, help: "Part of the features that each step leaves out" },
    sparsity: { default: 0, help: "Part of the weights that goes while it learns" },
    teacher: { default: "", help: "model.safetensors of a dense run, to learn from besides the labels" },
    folder: { default: FOLDER, help: "Where the IDX files are" },
  },
  async setup({ options, random }) {
    const [learned, judged] = await Promise.all([openPictures(options.folder, "train"), openPictures(options.folder, "t10k")]);
    const { sparsity } = options;
    const model = new ClothesNet(random, options.dropout * (1 - sparsity)); // a thin network hardly learns by heart
    const rate = options.rate * (1 - sparsity) ** -0.6; // and behind a normalisation its few weights can move further: four times at 90 %
    return {
      model,
      data: new data.TransformedDataset(learned, [data.randomFlip(), data.randomCrop({ padding: 1 })]),
      loss: await lossOf(model, random, options.smoothing, options.teacher),
      optimizer: ({ parameters, steps }) =>
        new optim.AdamW(parameters, {
          learningRate: optim.schedule.oneCycle(rate, steps, { up: 0.2 }),
          weightDecay: options.decay,
          decays: (p) => p.shape.length > 1,
        }),
      pruning: sparsity > 0 ? ({ steps }) => prune.whileLearning(model, { sparsity, steps }) : undefined,
      evaluate: {
        data: judged,
        batch: 500,
        measure: ({ image, label }) => {
          const logits = model.forward(image);
          return { accuracy: logits.argmax(1).eq(label).cast("f32").mean(), loss: nn.crossEntropy(logits, label) };
        },
      },
    };
  },
});
