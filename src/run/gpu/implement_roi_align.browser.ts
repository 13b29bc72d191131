// Pages take samples of regions that decide how many there are in JavaScript.
import type { DirectImplementation } from "./direct.ts";

export const roiAlign: DirectImplementation = () => null;
