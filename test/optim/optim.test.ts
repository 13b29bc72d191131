// Optimizers against their formulas in plain numbers; schedules, clipping, averages, and going on from saved state.
import { describe, expect, test } from "vitest";
import { Adam, AdamW, clipGradNorm, EMA, Lion, type Optimizer, ratesOf, type Schedule, SGD, schedule } from "../../src/optim/index.ts";
import { jit, Parameter, type Tensor, tensor } from "../../src/tensor/index.ts";

const START = 2;
const GRADS = [0.5, -1, 3, 0.25];

/** What a weight is after each gradient. */
async function path(make: (parameters: readonly Parameter[]) => Optimizer): Promise<number[]> {
  const parameter = new Parameter(tensor([START]));
  const optimizer = make([parameter]);
  using step = jit((grad: Tensor) => {
    optimizer.step([grad]);
    return grad.sum();
  });
  const weights: number[] = [];
  for (const grad of GRADS) {
    step(tensor([grad]));
    weights.push(await parameter.value.sum().item());
  }
  expect(step.programs).toBe(1);
  return weights;
}

/** The same in numbers: from weight, gradient and count to the new weight. */
function wanted(update: (w: number, g: number, count: number) => number): number[] {
  let w = START;
  return GRADS.map((g, i) => {
    w = update(w, g, i + 1);
    return w;
  });
}

function sgd(momentum: number, nesterov: boolean, decay: number) {
  let v = 0;
  return wanted((w, g) => {
    const slope = g + decay * w;
    v = momentum * v + slope;
    return w - 0.1 * (nesterov ? slope + momentum * v : v);
  });
}
function adam(decay: number, isDecoupled: boolean) {
  let [m, s] = [0, 0];
  return wanted((w, g, count) => {
    const grad = isDecoupled ? g : g + decay * w;
    m = 0.9 * m + 0.1 * grad;
    s = 0.99 * s + 0.01 * grad * grad;
    const kept = isDecoupled ? w * (1 - 0.1 * decay) : w;
    return kept - (0.1 * (m / (1 - 0.9 ** count))) / (Math.sqrt(s / (1 - 0.99 ** count)) + 1e-8);
  });
}
function lion(decay: number) {
  let m = 0;
  return wanted((w, g) => {
    const next = w - 0.1 * (Math.sign(0.9 * m + 0.1 * g) + decay * w);
    m = 0.99 * m + 0.01 * g;
    return next;
  });
}

const learningRate = 0.1;
const betas = [0.9, 0.99] as const;
const optimizers: Readonly<Record<string, readonly [(p: readonly Parameter[]) => Optimizer, number[]]>> = {
  SGD: [(p) => new SGD(p, { learningRate }), sgd(0, false, 0)],
  momentum: [(p) => new SGD(p, { learningRate, momentum: 0.9, weightDecay: 0.2 }), sgd(0.9, false, 0.2)],
  Nesterov: [(p) => new SGD(p, { learningRate, momentum: 0.9, nesterov: true }), sgd(0.9, true, 0)],
  Adam: [(p) => new Adam(p, { learningRate, betas }), adam(0, false)],
  "Adam with decay": [(p) => new Adam(p, { learningRate, betas, weightDecay: 0.3 }), adam(0.3, false)],
  AdamW: [(p) => new AdamW(p, { learningRate, betas, weightDecay: 0.3 }), adam(0.3, true)],
  "AdamW, not decaying": [(p) => new AdamW(p, { learningRate, betas, decays: () => false }), adam(0, true)],
  Lion: [(p) => new Lion(p, { learningRate, betas, weightDecay: 0.1 }), lion(0.1)],
};

test.each(Object.entries(optimizers))("%s", async (_, [make, weights]) => {
  for (const [i, w] of (await path(make)).entries()) expect(Math.abs(w - weights[i]), `step ${i}`).toBeLessThan(2e-6 * (1 + Math.abs(w)));
});

test("the learning rate is set between compiled steps", async () => {
  const parameter = new Parameter(tensor([1]));
  const optimizer = new SGD([parameter], { learningRate: 0.5 });
  using step = jit((g: Tensor) => {
    optimizer.step([g]);
    return optimizer.learningRate();
  });
  step(tensor([1]));
  optimizer.setLearningRate(0.25);
  expect(await step(tensor([1])).item()).toBe(0.25);
  expect([await parameter.value.array(), step.programs]).toEqual([[0.25], 1]);
});

test("saved state goes on as if nothing had happened", async () => {
  const run = (parameter: Parameter, optimizer: Optimizer, grads: readonly number[]) => {
    for (const g of grads) optimizer.step([tensor([g])]);
    return parameter.value.array();
  };
  const options = { learningRate: schedule.cosine(0.1, 4) };
  const through = new Parameter(tensor([START]));
  const all = await run(through, new Adam([through], options), GRADS);
  const first = new Parameter(tensor([START]));
  const before = new Adam([first], options);
  await run(first, before, GRADS.slice(0, 2));
  const second = new Parameter(first.value);
  const after = new Adam([second], options);
  const saved = await before.stateDict();
  expect(Object.keys(saved)).toEqual(["steps", "learning_rate", "state.0.exp_avg", "state.0.exp_avg_sq"]);
  after.loadStateDict(saved);
  expect(await run(second, after, GRADS.slice(2))).toEqual(all);
  expect(() => after.loadStateDict({})).toThrow("steps is missing");
});

describe("schedules", () => {
  const rates = async (s: Schedule, steps: number) => [...(await ratesOf(s, steps))].map((r) => Number(r.toFixed(4)));

  test.each<[string, Schedule, number[]]>([
    ["linear", schedule.linear(1, 0, 4), [1, 0.75, 0.5, 0.25, 0, 0]],
    ["cosine", schedule.cosine(1, 4), [1, 0.8536, 0.5, 0.1464, 0, 0]],
    ["stepwise", schedule.stepwise(1, 2, 0.5), [1, 1, 0.5, 0.5, 0.25, 0.25]],
    ["warm-up", schedule.warmUp(1, 2, schedule.linear(1, 0, 2)), [0.5, 1, 1, 0.5, 0, 0]],
    ["one cycle", schedule.oneCycle(1, 4, { up: 0.5, divideFirst: 10, divideLast: 10 }), [0.1, 0.55, 1, 0.505, 0.01, 0.01]],
  ])("%s", async (_, s, wanted) => {
    expect(await rates(s, 6)).toEqual(wanted);
  });
});

test("clipping shortens what is too long", async () => {
  const { grads, norm } = clipGradNorm([tensor([3]), tensor([[4]])], 1);
  expect(await norm.item()).toBe(5);
  expect(await grads[1].sum().item()).toBeCloseTo(0.8, 5);
  const short = clipGradNorm([tensor([3])], 10);
  expect(await short.grads[0].array()).toEqual([3]);
});

test("averages follow faster at first, stand in, step back, and go on from their state", async () => {
  const parameter: Parameter = new Parameter(tensor([10]), { name: "w" });
  const ema = new EMA([parameter], 0.15);
  using step = jit((x: Tensor) => {
    parameter.value = x;
    ema.update();
    return x.sum();
  });
  step(tensor([4]));
  const saved = await ema.stateDict();
  step(tensor([8]));
  const first = 10 * 0.1 + 4 * 0.9; // update 0: (1 + 0) / (10 + 0)
  const second = first * 0.15 + 8 * 0.85; // update 1: 2 / 11 is more than 0.15
  expect((await ema.with(() => parameter.value.numbers()))[0]).toBeCloseTo(second, 5);
  expect(await parameter.value.array()).toEqual([8]);
  expect(Object.keys(saved)).toEqual(["w", "n_averaged"]);

  const other: Parameter = new Parameter(tensor([8]), { name: "w" });
  const resumed = new EMA([other], 0.15);
  resumed.loadStateDict(saved);
  resumed.update();
  expect(await resumed.stateDict()).toEqual(await ema.stateDict());
});
