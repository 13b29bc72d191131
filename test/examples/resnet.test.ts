// The residual network on made-up pictures: it learns, the same seed gives the same losses, and a deeper one has more layers.
import { expect, test } from "vitest";
import type { Images } from "../../examples/fashion-mnist/images.ts";
import { ResNet } from "../../examples/resnet/network.ts";
import { evaluate, train } from "../../examples/resnet/train.ts";
import { key, random } from "../../src/tensor/index.ts";

const COUNT = 64;
const PIXELS = 28 * 28;

/** Noise with a bright bar, whose place is the label. */
async function bars(seed: number): Promise<Images> {
  const noise = await random.uniform(key(seed), [COUNT * PIXELS]).numbers();
  const labels = Int32Array.from({ length: COUNT }, (_, i) => i % 10);
  const pixels = Uint8Array.from(noise, (v, i) => {
    const [picture, row] = [Math.floor(i / PIXELS), Math.floor((i % PIXELS) / 28)];
    return 60 * v + (Math.floor(row / 2.8) === labels[picture] ? 180 : 0);
  });
  return { count: COUNT, pixels, labels };
}

const settings = { epochs: 8, batch: 32, learningRate: 0.01, seed: 1, maxSteps: 14 };

test("it learns where the bar is, and the same from the same seed", async () => {
  const images = await bars(1);
  const runs = [];
  for (const _ of [0, 1]) {
    const model = new ResNet({ seed: 3 });
    const { losses } = await train(model, images, settings);
    runs.push({ losses, accuracy: await evaluate(model, await bars(2), 32) });
  }
  const [{ losses, accuracy }] = runs;
  expect(losses.length).toBe(14);
  expect(losses.at(-1)!).toBeLessThan(0.8 * losses[0]);
  expect(accuracy).toBeGreaterThan(0.2); // chance is 0.1; the running statistics are young
  expect(runs[1]).toEqual(runs[0]);
});

test("the depth is that of each stage", () => {
  const convolutions = (depth: number) =>
    [...new ResNet({ seed: 0, depth }).namedState()].filter(([name]) => /conv\d\.weight$/.test(name)).length;
  expect([convolutions(1), convolutions(2)]).toEqual([6, 12]);
});
