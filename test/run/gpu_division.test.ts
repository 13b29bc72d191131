// Quotients of float32: the same bits on every GPU as on the CPU, as quantization rounds them to whole numbers.
import { describe, expect, test } from "vitest";
import { fromNumbers } from "../../src/ir/tensor.ts";
import { loadModel } from "../../src/model.ts";
import { info, model, node } from "../formats/onnx_model.ts";
import { GPU_DEVICES } from "./gpu_devices.ts";

const N = 4096;
const quotient = model({ name: "quotient", input: [info("a", [N]), info("b", [N])], output: [info("y", [N])], initializer: [], node: [node("Div", ["a", "b"], ["y"])] }); // biome-ignore format: one idea

/** Floats of both signs and magnitudes from 2⁻¹⁰ to 2¹⁰, all bits of the significand random. */
function floatsOfAllKinds(seed: number): number[] {
  let state = seed;
  const word = (): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state >>> 8;
  };
  return Array.from({ length: N }, () => Math.fround((word() % 2 ? -1 : 1) * (1 + word() / 2 ** 24) * 2 ** ((word() % 21) - 10)));
}

describe.each(GPU_DEVICES)("on $name", ({ options }) => {
  test("quotients are rounded to the nearest", { timeout: 60_000 }, async () => {
    const [a, b] = [floatsOfAllKinds(1), floatsOfAllKinds(2)];
    a.splice(0, 6, -2.5, 0, -0, Number.POSITIVE_INFINITY, 1, Number.NaN);
    b.splice(0, 6, Math.fround(5 / 255), 3, 3, 2, 0, 1);
    using loaded = await loadModel(quotient, options);
    const { y } = await loaded.run({ a: fromNumbers("f32", [N], a), b: fromNumbers("f32", [N], b) });
    expect([...y.data]).toEqual(a.map((n, i) => Math.fround(n / b[i])));
  });
});
