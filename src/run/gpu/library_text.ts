// What there is to see of a library's kernel: a line that says what it computes.
import type { LibraryConv, LibraryGemm, LibraryTail } from "../../ir/library_kernel.ts";

const GELU = { value: ", gelu", stored: ", stored, gelu", slope: " · slope of gelu" } as const;
const tailText = ({ hasBias, hasAdded, isRelu, gelu }: LibraryTail): string =>
  [hasBias ? " + bias" : "", hasAdded ? " + tensor" : "", isRelu ? ", relu" : "", gelu ? GELU[gelu] : ""].join("");

export function libraryText(kernel: LibraryGemm | LibraryConv): string {
  const { name, outType, tail } = kernel;
  const type = kernel.roundsF32 ? "tf32" : kernel.type;
  const end = `${tailText(tail)} → ${outType}\n`;
  if (kernel.library === "gemm") {
    const { batch, m, n, k } = kernel;
    return `// ${name}: the library's product of ${type}, ${batch} × (${m},${k}) · (${k},${n})${end}`;
  }
  const { images, inChannels, outChannels, groups, input, kernel: window, strides } = kernel;
  const shape = `${images} × (${input.join("×")}, ${inChannels}) by ${outChannels} × (${window.join("×")})`;
  return `// ${name}: the library's convolution of ${type}, ${shape}, strides ${strides.join("×")}, ${groups} groups${end}`;
}
