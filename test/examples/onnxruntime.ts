// Whether the rival that examples are compared with is installed.
import { createRequire } from "node:module";

export const hasOnnxruntime = ((): boolean => {
  try {
    createRequire(import.meta.url).resolve("onnxruntime-node");
    return true;
  } catch {
    return false;
  }
})();
