// A model and inputs → the pictures of where its time goes.
import type { Model, NodeTime } from "../src/web/index.ts";
import { rooflinePlot } from "./roofline.ts";
import { timesPlot } from "./times.ts";

/** Browsers' clocks are coarse: small networks are timed again and again for so long, and their times averaged. */
const ENOUGH_MS = 200;
const MAX_PASSES = 50;

async function meanTimes(model: Model, inputs: Parameters<Model["run"]>[0]): Promise<NodeTime[]> {
  await model.profile(inputs); // warms up
  const passes: NodeTime[][] = [];
  const start = performance.now();
  do passes.push(await model.profile(inputs));
  while (passes.length < MAX_PASSES && performance.now() - start < ENOUGH_MS);
  return passes[0].map((node, i) => ({ ...node, ms: passes.reduce((sum, times) => sum + times[i].ms, 0) / passes.length }));
}

export async function timingOf(model: Model, inputs: Parameters<Model["run"]>[0]): Promise<HTMLElement[]> {
  const nodes = await meanTimes(model, inputs);
  return [timesPlot(nodes), rooflinePlot(nodes, await model.measurePeaks())];
}
