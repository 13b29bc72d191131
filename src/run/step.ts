// What a program is made of: kernel calls whose parameters are values, constants and temporaries, or operators run in JavaScript.

import type { TypedArray } from "../ir/dtype.ts";
import type { Node, Value } from "../ir/graph.ts";
import type { Kernel, SimdTarget } from "../ir/kernel.ts";
import type { Epilogue } from "../kernels/epilogue.ts";

/** What a kernel's parameter is bound to. */
export type Place =
  | { readonly k: "value"; readonly value: Value }
  /** Data known when compiling, already in the kernel's order. */
  | { readonly k: "constant"; readonly data: TypedArray }
  /** The same, written when there is memory for it: all of the parameter, which is zeros before. */
  | { readonly k: "packed"; readonly pack: (out: Float32Array) => void }
  /** Memory that only this step uses, the same for equal ids. */
  | { readonly k: "temporary"; readonly id: number; readonly bytes: number };

export interface KernelCall {
  readonly kernel: Kernel;
  /** One for each parameter but scratch. */
  readonly places: readonly Place[];
  /** It leaves unfinished sums in the output before it reads what its epilogue needs. */
  readonly storesPartialSums?: boolean;
}

/** One node of the graph as it is executed. No calls: the node runs in JavaScript. */
export interface Step {
  readonly node: Node;
  readonly calls: readonly KernelCall[] | null;
}

/** Values that a step reads, as kernels see them. */
export function readsOf(step: Step): readonly Value[] {
  const outputs = new Set(step.node.outputs);
  if (!step.calls) return step.node.inputs.filter((v): v is Value => v !== null);
  return step.calls.flatMap((c) => c.places.flatMap((p) => (p.k === "value" && !outputs.has(p.value) ? [p.value] : [])));
}

/** What the kernels for a node are generated for. */
export interface TargetOptions {
  readonly target: SimdTarget;
  readonly threads: number;
  /** Kernels of this program by what they compute: layers of equal shapes share one. */
  readonly kernels: Map<string, Kernel>;
}

/** The kernel of this kind for these parts, generated when there is none yet. */
export function sharedKernel({ kernels }: TargetOptions, key: string, generate: () => Kernel): Kernel {
  const known = kernels.get(key);
  if (known) return known;
  const kernel = generate();
  kernels.set(key, kernel);
  return kernel;
}

/** An operator with a kernel written for it, and the element-wise tail that the kernel applies. */
export interface AnchorTask extends TargetOptions {
  readonly name: string;
  readonly anchor: Node;
  /** The anchor's inputs, as values outside of the group. */
  readonly inputs: readonly (Value | null)[];
  readonly epilogue: Epilogue;
  /** Equal for epilogues that do the same to inputs of the same types. */
  readonly epilogueKey: string;
  /** What the epilogue reads, as values outside of the group. */
  readonly epilogueInputs: readonly Value[];
  readonly output: Value;
}

/** Kernels for an anchor; null: not for these shapes or types. */
export type Implementation = (task: AnchorTask) => readonly KernelCall[] | null;

export const valuePlace = (value: Value): Place => ({ k: "value", value });
export const packedPlace = (pack: (out: Float32Array) => void): Place => ({ k: "packed", pack });
export const constantPlace = (data: TypedArray): Place => ({ k: "constant", data });

/** The places of what every kernel with an epilogue ends with. */
export const tailPlaces = (task: AnchorTask): Place[] => [...task.epilogueInputs.map(valuePlace), valuePlace(task.output)];
