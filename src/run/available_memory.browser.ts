// How much memory a program in a page can have: what WebAssembly addresses, since browsers do not tell how much there is.

const WASM_BYTES = 2 ** 32;

export const availableBytes: typeof import("./available_memory.ts").availableBytes = () => WASM_BYTES;
