// Floats of 8 bits: browsers move them, but do not know their numbers.
import { HeddleError } from "./error.ts";

const refused = (): never => {
  throw new HeddleError("unsupported", "float8 numbers are not for browsers; cast them to float16 when the model is made");
};

export const float8ToNumber: typeof import("./float8.ts").float8ToNumber = refused;
export const numberToFloat8: typeof import("./float8.ts").numberToFloat8 = refused;
