// Expressions of operators that few networks have, by their names.
import type { ExpressionOf } from "./contractions.ts";
import { hardmax } from "./lines.ts";
import { maxRoiPool, roiAlign } from "./rare_regions.ts";
import { col2Im, lpPool, maxPoolWithPlaces } from "./rare_windows.ts";
import { scatterElements, scatterND } from "./scattered.ts";

export const RARE_EXPRESSIONS: Readonly<Record<string, ExpressionOf>> = {
  ScatterElements: scatterElements,
  Scatter: scatterElements,
  ScatterND: scatterND,
  Hardmax: hardmax,
  LpPool: lpPool,
  MaxPool: maxPoolWithPlaces,
  Col2Im: col2Im,
  RoiAlign: roiAlign,
  MaxRoiPool: maxRoiPool,
};
