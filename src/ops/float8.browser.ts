// Conversions of float8 numbers: not in browsers.
import { float8ToNumber } from "../ir/float8.ts";

export const fromFloat8: typeof import("./float8.ts").fromFloat8 = () => float8ToNumber("f8e5m2", 0) as never; // it throws
export const toFloat8: typeof import("./float8.ts").toFloat8 = fromFloat8 as never;
