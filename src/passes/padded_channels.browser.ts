// Zeros behind channels are for CUDA's libraries: none in browsers.
export const paddedChannels: typeof import("./padded_channels.ts").paddedChannels = () => ({
  name: "paddedChannels",
  run: (graph) => graph,
});
