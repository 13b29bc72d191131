// A GPU's program as plain data and bytes, and back: what is kept of it on disk.
import type { GpuDevice } from "../../devices/gpu.ts";
import { DTYPES, type DType } from "../../ir/dtype.ts";
import { type GpuKernel, isLibraryKernel } from "../../ir/library_kernel.ts";
import type { CheckedFile } from "../checked_file.ts";
import type { Address, PlacedConstant, ProgramPlan } from "../image.ts";
import { GpuProgram } from "./program.ts";

interface StoredConstant {
  readonly at: Address;
  readonly dtype: DType;
  readonly elements: number;
}

/** The code and each constant follow as parts. */
export interface StoredGpuProgram extends ProgramPlan {
  /** Without bodies: the code is what they became. */
  readonly kernels: readonly GpuKernel[];
  readonly origins: readonly string[];
  readonly constants: readonly StoredConstant[];
}

/** The program must be joined with what it was made from. */
export function storedForm(program: GpuProgram): { value: StoredGpuProgram; parts: readonly Uint8Array[] } {
  const { kernels, origins, constants, code } = program.content;
  const all = [...constants];
  return {
    value: {
      ...program.image,
      kernels: kernels.map((kernel) => (isLibraryKernel(kernel) ? kernel : { ...kernel, body: [] })),
      origins,
      constants: all.map(({ at, dtype, data }) => ({ at, dtype, elements: data.length })),
    },
    parts: [code, ...all.map(({ data }) => new Uint8Array(data.buffer, data.byteOffset, data.byteLength))],
  };
}

/** Throws Unusable, and what loading throws. */
export function loadStored(device: GpuDevice, stored: StoredGpuProgram, file: CheckedFile): Promise<GpuProgram> {
  const { kernels, origins, constants, ...plan } = stored;
  const code = new Uint8Array(file.parts[0]);
  file.read(code);
  return GpuProgram.load(device, plan, { kernels, origins, constants: constantsIn(file, constants), code });
}

function* constantsIn(file: CheckedFile, constants: readonly StoredConstant[]): Generator<PlacedConstant> {
  for (const { at, dtype, elements } of constants) {
    const data = new DTYPES[dtype].array(elements);
    file.read(new Uint8Array(data.buffer));
    yield { at, dtype, data };
  }
}
