// Products on matrix fragments: none, since browsers' WebGPU has no fragments.
type Fragments = typeof import("./choose_fragments.ts");

export const planOnFragments: Fragments["planOnFragments"] = () => null;
