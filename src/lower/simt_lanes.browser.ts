// In browsers each thread has one element: vectors would take 1 kB of the bundle.
type Lanes = typeof import("./simt_lanes.ts");

export const LANES: Lanes["LANES"] = 4;
export const lanesOf: Lanes["lanesOf"] = () => null;
export const loadLanes: Lanes["loadLanes"] = () => {};
