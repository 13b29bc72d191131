// A model and inputs → the pictures of where its time goes.
import type { Model } from "../src/web/index.ts";
import { rooflinePlot } from "./roofline.ts";
import { timesPlot } from "./times.ts";

/** The first pass warms up, the second is shown. */
export async function timingOf(model: Model, inputs: Parameters<Model["run"]>[0]): Promise<HTMLElement[]> {
  await model.profile(inputs);
  const nodes = await model.profile(inputs);
  return [timesPlot(nodes), rooflinePlot(nodes, await model.measurePeaks())];
}
