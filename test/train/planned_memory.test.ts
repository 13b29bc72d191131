// The memory that is announced is the memory that is taken: what a run allocates on the device, against the plan that it prints.
import { expect, test } from "vitest";
import type { CpuDevice, Memory } from "../../src/devices/cpu.ts";
import { device, setDevice } from "../../src/tensor/device.ts";
import { data, defineTraining, nn, optim } from "../../src/train/index.ts";

const COUNT = 128;

const pictures = defineTraining({
  name: "pictures",
  epochs: 1,
  batch: 64,
  setup({ random }) {
    const model = new nn.Sequential(
      new nn.Conv2d(1, 16, 3, { key: random, padding: 1 }),
      new nn.BatchNorm2d(16),
      new nn.ReLU(),
      new nn.Flatten(),
      new nn.Linear(16 * 16 * 16, 256, { key: random }),
      new nn.Dropout(0.1, random),
      new nn.Linear(256, 4, { key: random }),
    );
    return {
      model,
      data: new data.TensorDataset({
        x: { dtype: "f32", shape: [COUNT, 1, 16, 16], data: Float32Array.from({ length: COUNT * 256 }, (_, i) => Math.sin(i)) },
        y: { dtype: "i32", shape: [COUNT], data: Int32Array.from({ length: COUNT }, (_, i) => i % 4) },
      }),
      loss: ({ x, y }) => nn.crossEntropy(model.forward(x), y),
      optimizer: ({ parameters }) => new optim.AdamW(parameters, { learningRate: 0.001 }),
      ema: 0.99,
    };
  },
});

test("a step takes what was planned for it and for states, and little besides", async () => {
  setDevice({ threads: 1 });
  const host = (await device()) as CpuDevice; // what was chosen
  let held = 0;
  const alloc = host.alloc.bind(host);
  host.alloc = (bytes: number): Memory => {
    const memory = alloc(bytes);
    held += bytes;
    const free = memory.free.bind(memory);
    memory.free = () => {
      held -= bytes;
      free();
    };
    return memory;
  };
  const seen: number[] = [];
  let planned = 0;
  await pictures.run({
    report(event) {
      if (event.kind === "memory") planned = event.arenaBytes + event.stateBytes;
      if (event.kind === "step") seen.push(held);
    },
  });
  expect(seen).toEqual([seen[0], seen[0]]);
  expect(planned).toBeGreaterThan(16 << 20); // weights, averages and two moments of a million numbers each
  expect(seen[0]).toBeGreaterThanOrEqual(planned);
  expect(seen[0] - planned).toBeLessThan(64 << 10); // lists of launches, and what threads work in
});
