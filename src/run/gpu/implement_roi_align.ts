// RoiAlign whose regions decide how many samples they take.
import type { Node } from "../../ir/graph.ts";
import { type RegionBins, roiAlignKernel } from "../../kernels/simt/roi_align.ts";
import type { RoiAlignAttrs } from "../../ops/roi.ts";
import { type DirectImplementation, single } from "./direct.ts";

/** Null: samples are given, which an expression takes, or numbers are of 16 bits. */
export const roiAlign: DirectImplementation = (node, name, target, shared) => {
  const bins = binsOf(node);
  if (!bins) return null;
  return single(
    node,
    shared(`RoiAlign ${JSON.stringify(bins)}`, name, (n) => roiAlignKernel(n, bins, target)),
  );
};

function binsOf({ inputs, attrs }: Node): RegionBins | null {
  const [x, regions] = inputs.map((v) => v!.type); // all three are there
  const a = attrs as unknown as RoiAlignAttrs; // the operator's
  if (a.sampling_ratio > 0 || x.dtype !== "f32" || regions.dtype !== "f32") return null;
  return {
    image: x.shape as unknown as RegionBins["image"], // checked by infer
    regions: regions.shape[0],
    rows: a.output_height,
    columns: a.output_width,
    isMean: a.mode === "avg",
    isHalf: a.coordinate_transformation_mode === "half_pixel",
    scale: a.spatial_scale,
  };
}
