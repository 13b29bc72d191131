// All that WebGPU needs, in one piece that pages load when they open it.
export { measureGpuPeaks } from "../devices/gpu_peaks.ts";
export { openWebGpu } from "../devices/webgpu/index.ts";
export { compileForGpu } from "../run/gpu/program.ts";
