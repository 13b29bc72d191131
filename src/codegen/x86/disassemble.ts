// A kernel to the readable listing of its machine code, recorded while it is assembled.
import type { Kernel, SimdTarget } from "../../ir/kernel.ts";
import { lowerAddresses } from "../addresses.ts";
import { emitKernel } from "./emit.ts";

/** One line an instruction: offset, bytes, text; labels and comments on lines of their own. */
export function listX86(kernel: Kernel, target: SimdTarget): string {
  const asm = emitKernel(lowerAddresses(kernel), target, true);
  const code = asm.finish();
  const lines = asm.listing.map(({ offset, bytes, text }) => {
    if (bytes === 0) return text;
    const hex = Array.from(code.subarray(offset, offset + Math.min(bytes, 12)), (b) => b.toString(16).padStart(2, "0")).join("");
    return `${offset.toString(16).padStart(6)}  ${(bytes > 12 ? `${hex}…` : hex).padEnd(26)}${text}`;
  });
  return `${lines.join("\n")}\n`;
}
