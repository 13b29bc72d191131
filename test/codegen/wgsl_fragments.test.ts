// Products on matrix fragments in WGSL: the text passes Dawn's front end (its null backend, since software GPUs have no fragments), and words are as wide as accesses allow.
import { existsSync } from "node:fs";
import { beforeAll, describe, expect, test } from "vitest";
import { fragmentTypes } from "../../src/codegen/wgsl/fragments.ts";
import { printWgsl } from "../../src/codegen/wgsl/index.ts";
import { DTYPES } from "../../src/ir/dtype.ts";
import { modIndex } from "../../src/ir/index_expr.ts";
import type { SimtTarget } from "../../src/ir/simt.ts";
import { planProduct, productKernel } from "../../src/kernels/simt/choose.ts";
import { fragmentProduct, fragmentSchedules } from "../../src/kernels/simt/fragment_product.ts";
import { stridedOperand } from "../../src/kernels/simt/operand.ts";
import type { Product } from "../../src/kernels/simt/product.ts";
import { noTail } from "../../src/kernels/simt/tail.ts";

const target: SimtTarget = {
  name: "wgsl",
  subgroup: 32,
  maxThreads: 256,
  sharedBytes: 48 << 10,
  maxGroups: 65535,
  maxBuffers: 8,
  holdsCopies: true,
  fragments: ["f16"],
  storedBytes: Object.fromEntries(Object.entries(DTYPES).map(([dtype, { bytes }]) => [dtype, dtype === "f16" ? 2 : Math.max(4, bytes)])),
};

function productOf([m, n, k]: readonly number[], turned: string): Product {
  const [isLeft, isRight] = [turned[0] === "t", turned[1] === "t"];
  return {
    left: stridedOperand("f16", m * k, [], { extent: m, stride: isLeft ? 1 : k }, { extent: k, stride: isLeft ? m : 1 }),
    right: stridedOperand("f16", k * n, [], { extent: n, stride: isRight ? k : 1 }, { extent: k, stride: isRight ? 1 : n }),
    batch: 1,
    splits: 1,
    tail: noTail({ dtype: "f16", shape: [1, m, n] }),
    place: (part, row, column) => [modIndex(part, 1), row, column],
  };
}

/** Devices must not outlive it. */
let dawn: GPU;
const hasDawn = existsSync(new URL("../../node_modules/webgpu", import.meta.url));

describe.skipIf(!hasDawn)("Dawn's front end", () => {
  let device: GPUDevice;
  beforeAll(async () => {
    const { create } = (await import("webgpu" as string)) as { create(options: readonly string[]): GPU }; // an optional package
    dawn = create(["backend=null", "enable-dawn-features=allow_unsafe_apis"]);
    const adapter = await dawn.requestAdapter();
    const features = ["shader-f16", "subgroups", "chromium-experimental-subgroup-matrix"] as GPUFeatureName[]; // one is an experiment
    device = await adapter!.requestDevice({ requiredFeatures: features }); // the null backend is always there
  });

  for (const size of [
    [256, 192, 128],
    [100, 76, 60],
    [37, 45, 61],
  ]) // by 16 bytes, by 8, one by one; biome-ignore format: a table
    test.each(["nn", "tt"])(`(${size}) %s`, async (turned) => {
      const product = productOf(size, turned);
      const schedules = fragmentSchedules(product, target);
      expect(schedules.length).toBeGreaterThan(1);
      for (const schedule of schedules) {
        device.pushErrorScope("validation");
        device.createShaderModule({ code: printWgsl(fragmentProduct("product", product, schedule, target), { hasF16: true }) });
        expect((await device.popErrorScope())?.message).toBeUndefined();
      }
    });
});

test("operands whose lines begin at 16 bytes are read by 16, others by what their lines allow", () => {
  const typesOf = (size: readonly number[]): string[] => {
    const product = productOf(size, "nn");
    const plan = planProduct(product, target);
    expect(plan.k).toBe("fragments");
    const text = printWgsl(productKernel("product", product, plan, target), { hasF16: true });
    return [...text.matchAll(/var<storage, read_write> b\d: array<(.*)>;/g)].map((m) => m[1]);
  };
  expect(typesOf([512, 512, 512])).toEqual(["vec4<u32>", "vec4<u32>", "vec2<u32>"]);
  expect(typesOf([512, 508, 510])).toEqual(["u32", "vec2<u32>", "vec2<u32>"]);
  expect(typesOf([511, 509, 513])).toEqual(["f16", "f16", "f16"]);
});

test("fragments are used only where subgroups have 32 threads and 16×16×16 of f16 to f32 is there", () => {
  const features = new Set(["subgroups", "chromium-experimental-subgroup-matrix"]);
  const config = { componentType: "f16", resultComponentType: "f32", M: 16, N: 16, K: 16 };
  const info = { subgroupMinSize: 32, subgroupMaxSize: 32, subgroupMatrixConfigs: [config] };
  expect(fragmentTypes(info, features)).toEqual(["f16"]);
  expect(fragmentTypes(info, new Set(["subgroups"]))).toEqual([]);
  expect(fragmentTypes({ ...info, subgroupMinSize: 8 }, features)).toEqual([]);
  expect(fragmentTypes({ ...info, subgroupMatrixConfigs: [{ ...config, resultComponentType: "f16" }] }, features)).toEqual([]);
  expect(fragmentTypes({ ...info, subgroupMatrixConfigs: undefined }, features)).toEqual([]);
});
