// What a program is made of: kernel calls whose parameters are values, constants and temporaries, or operators run in JavaScript.

import type { TypedArray } from "../ir/dtype.ts";
import type { Node, TensorType, Value } from "../ir/graph.ts";
import type { BufferParam, Kernel, SimdTarget } from "../ir/kernel.ts";
import type { NarrowPrecision } from "../ir/precision.ts";
import type { Epilogue } from "../kernels/epilogue.ts";
import type { InTiles } from "../kernels/sparse_side.ts";
import type { LayoutCosts } from "../passes/layout_plan.ts";
import type { SparseMode, SparseRates } from "./implement/sparse_cost.ts";

/** What a kernel's parameter is bound to. */
export type Place =
  | { readonly k: "value"; readonly value: Value }
  /** Data known when compiling, already in the kernel's order. */
  | { readonly k: "constant"; readonly data: TypedArray }
  /** The same, written when there is memory for it: all of the parameter, which is zeros before. */
  | { readonly k: "packed"; readonly pack: (out: Float32Array) => void }
  /** Memory that only this step uses, the same for equal ids. */
  | { readonly k: "temporary"; readonly id: number; readonly bytes: number };

/** What scheduling asks of a kernel, whatever kind of device it is for. */
export interface AnyKernel {
  readonly name: string;
  readonly params: readonly { readonly bytes: number; readonly access: BufferParam["access"] }[];
}

export interface KernelCall<K extends AnyKernel = Kernel> {
  readonly kernel: K;
  /** One for each parameter but scratch. */
  readonly places: readonly Place[];
  /** It leaves unfinished sums in the output before it reads what its epilogue needs. */
  readonly storesPartialSums?: boolean;
  /** Where activations by rows might lie in tiles instead, between this and other sparse products. */
  readonly tiled?: TiledProduct<K>;
}

/** A product (n, depth) → (n, rows) that there is with an operand in tiles, a result in tiles, or both. */
export interface TiledProduct<K extends AnyKernel = Kernel> {
  readonly n: number;
  readonly depth: number;
  readonly rows: number;
  /** What may come in tiles, and what may be given so; null: neither. */
  readonly operand: Value | null;
  readonly result: Value | null;
  again(inTiles: InTiles): KernelCall<K>;
}

/** One node of the graph as it is executed. No calls: the node runs in JavaScript. */
export interface Step<K extends AnyKernel = Kernel> {
  readonly node: Node;
  readonly calls: readonly KernelCall<K>[] | null;
}

/** What lives in one memory that lasts, at one time or another; `input` is the first of it. */
export interface Lasting {
  readonly input: Value;
  readonly values: readonly Value[];
}

/** What a kind of device brings to scheduling: its kernels, and how it keeps tensors. */
export interface Backend<K extends AnyKernel = Kernel> {
  /** Whether a group may form around a node. */
  isAnchor(node: Node): boolean;
  /** Whether a node that is made of others has kernels of its own, with 16-bit copies of its operands where there are to be any. */
  keeps?(node: Node, narrow: NarrowPrecision | undefined): boolean;
  /** See FuseOptions. */
  readonly rereads?: boolean;
  /** What layouts cost there; default: not counted. */
  readonly layoutCosts?: LayoutCosts;
  /** How a node is executed. `name` is unique in the program. */
  implement(node: Node, name: string): Step<K>;
  /** The same steps, some of them in one, or with tensors between them that lie as both like it. `owner` of a value: the one whose memory it has; `isKept`: it is needed when all steps are done. */
  join?(steps: readonly Step<K>[], owner: (v: Value) => Value, isKept: (v: Value) => boolean): Step<K>[];
  /** The same steps, whose states have places, with fewer launches; `kept` are needed when all are done. */
  together?(steps: readonly Step<K>[], owner: (v: Value) => Value, states: readonly Lasting[], kept: readonly Value[]): Step<K>[];
  /** A kernel that copies a tensor. */
  copy(type: TensorType): K;
  /** Bytes of a tensor in the device's memory. */
  bytesOf(type: TensorType): number;
  /** Of what lies in one memory, bytes. */
  readonly alignment: number;
  /** Of layers whose weights have zeros, with those that were implemented so far. */
  readonly sparse?: SparsePolicy;
}

/** What each of a call's parameters is bound to, with the bytes that the kernel expects there. */
export function* boundPlaces({ kernel, places }: KernelCall<AnyKernel>): Iterable<{ readonly place: Place; readonly bytes: number }> {
  let param = 0;
  for (const place of places) {
    while (kernel.params[param].access === "scratch") param++;
    yield { place, bytes: kernel.params[param++].bytes };
  }
}

/** Values that a step reads, as kernels see them. */
export function readsOf(step: Step<AnyKernel>): readonly Value[] {
  const { inputs, outputs } = step.node;
  if (!step.calls) return inputs.filter((v): v is Value => v !== null);
  const reads: Value[] = [];
  for (const { places } of step.calls) for (const p of places) if (p.k === "value" && !outputs.includes(p.value)) reads.push(p.value);
  return reads;
}

/** What the kernels for a node are generated for. */
export interface TargetOptions {
  readonly target: SimdTarget;
  readonly threads: number;
  /** Kernels of this program by what they compute: layers of equal shapes share one. */
  readonly kernels: Map<string, Kernel>;
  /** Default: what is usually faster. */
  readonly sparse?: SparsePolicy;
}

/** How layers with sparse weights are chosen kernels for, and what was chosen. */
export interface SparsePolicy {
  readonly mode: SparseMode;
  /** What is predicted by; what was tried meanwhile may be added. */
  rates: SparseRates;
  readonly choices: SparseChoice[];
  /** Whether the best sparse kernel is wanted, though it may not pay: to be tried. */
  readonly isEager?: true;
  /** Layers that predictions leave open, where they are collected. */
  readonly doubts?: Doubt[];
}

/** A layer that might be faster with either kind of kernel. */
export interface Doubt {
  /** Equal layers have equal keys. */
  readonly key: string;
  /** Its number among the choices. */
  readonly choice: number;
  readonly dense: readonly KernelCall[];
  readonly sparse: readonly KernelCall[];
}

/** A layer with weights (rows, depth) on n columns, and what its kernels were predicted to take. */
export interface SparseChoice {
  /** Of its step. */
  readonly node: Node;
  readonly rows: number;
  readonly depth: number;
  readonly n: number;
  /** Share of the weights that are not zero. */
  readonly density: number;
  readonly denseMs: number;
  readonly sparseMs: number;
  readonly isSparse: boolean;
  /** Of its sparse kernel: blocks, or code made for the pattern; none: CSB. */
  readonly format?: string;
  /** Whether its times were measured on this machine, not predicted. */
  readonly isTried?: true;
}

/** The kernel of this kind for these parts, generated when there is none yet. */
export function sharedKernel({ kernels, threads }: TargetOptions, key: string, generate: () => Kernel): Kernel {
  const known = kernels.get(keyFor(threads, key));
  if (known) return known;
  const kernel = generate();
  kernels.set(keyFor(threads, key), kernel);
  return kernel;
}
export const hasKernel = ({ kernels, threads }: TargetOptions, key: string): boolean => kernels.has(keyFor(threads, key));
const keyFor = (threads: number, key: string): string => `${threads} ${key}`;

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
