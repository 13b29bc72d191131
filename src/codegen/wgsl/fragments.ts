// Matrix fragments in WGSL: Dawn's experimental subgroup matrices, and the copies that fill their tiles.
import { invariant } from "../../ir/error.ts";
import { FRAGMENT, type Fragment, type Reg, type SimtKernel, type SimtStmt } from "../../ir/simt.ts";
import type { FragmentStmt } from "../simt_printer.ts";
import { type Access, wordAt, wordType } from "./words.ts";

/** Which matrix a subgroup loads it computes from the thread's number, in a way that compilers do not see to be the same for all of its threads. */
export const FRAGMENT_DIRECTIVES = [
  "enable chromium_experimental_subgroup_matrix;",
  "enable subgroups;",
  "diagnostic(off, chromium.subgroup_matrix_uniformity);",
];

/** What a device needs for them. */
export const FRAGMENT_FEATURES = ["chromium-experimental-subgroup-matrix", "subgroups"];

/** What an adapter says of the matrices that it multiplies. */
interface MatrixInfo {
  readonly subgroupMinSize?: number;
  readonly subgroupMaxSize?: number;
  readonly subgroupMatrixConfigs?: readonly { readonly componentType: string; readonly resultComponentType: string; readonly M: number; readonly N: number; readonly K: number }[]; // biome-ignore format: a line an entry
}

/** Element types of fragments that a device with these features multiplies, in subgroups of as many threads as kernels count on. */
export function fragmentTypes(info: object, features: ReadonlySet<string>): readonly "f16"[] {
  const { subgroupMinSize, subgroupMaxSize, subgroupMatrixConfigs = [] } = info as MatrixInfo; // an experiment, of which the types do not know
  if (!FRAGMENT_FEATURES.every((f) => features.has(f)) || subgroupMinSize !== 32 || subgroupMaxSize !== 32) return [];
  const isOurs = subgroupMatrixConfigs.some(
    (c) => c.componentType === "f16" && c.resultComponentType === "f32" && [c.M, c.N, c.K].every((n) => n === FRAGMENT),
  );
  return isOurs ? ["f16"] : [];
}

/** `array`: the shared array's name, the place in it and the elements of its words, which all places are counted in. */
export function fragmentText(
  s: FragmentStmt,
  array: { readonly name: string; readonly at: string; readonly width: number } | null,
): string {
  const { name = "", at = "", width = 1 } = array ?? {};
  const from = `&${name}, (${at}) / ${width}`;
  switch (s.k) {
    case "fragment":
      return `var m${s.fragment.id}: ${matrixType(s.fragment)};`;
    case "loadFragment":
      return `m${s.fragment.id} = subgroupMatrixLoad<${matrixType(s.fragment)}, ${s.isTransposed ? "col" : "row"}_major>(${from}, ${s.stride / width});`;
    case "multiply":
      return `m${s.sum.id} = subgroupMatrixMultiplyAccumulate(m${s.a.id}, m${s.b.id}, m${s.sum.id});`;
    case "storeFragment":
      return `subgroupMatrixStore<row_major>(${from}, m${s.fragment.id}, ${s.stride / width});`;
    case "readFragment":
    case "writeFragment":
      invariant(false, "WGSL does not open subgroup matrices"); // as its targets say
      break;
    default:
      return s satisfies never;
  }
}

const matrixType = ({ role, dtype }: Fragment): string =>
  `subgroup_matrix_${{ a: "left", b: "right", sum: "result" }[role]}<${dtype}, ${FRAGMENT}, ${FRAGMENT}>`;

/** Loads at once, and stores for when the copy is waited for: `from` and `to` are accessed by words of one width. */
export function copyText(
  id: number,
  from: Access,
  to: Access,
  s: Extract<SimtStmt, { k: "copy" }>,
  text: (a: Reg) => string,
): { readonly loads: string[]; readonly stores: string[] } {
  const { width } = to;
  invariant(from.type === to.type && !to.isForeign, `a copy from ${from.type} to ${to.type}`);
  const inside = s.isInside && text(s.isInside);
  const words = Array.from({ length: s.count / width }, (_, i) => i);
  return {
    loads: [
      `let c${id} = ${wordAt(text(s.to), width, 0)};`,
      ...words.map((i) => {
        const word = `${from.name}[${wordAt(text(s.from), width, i)}]`;
        return `let c${id}_${i} = ${inside ? `select(${wordType(from.type, width)}(), ${word}, ${inside})` : word};`;
      }),
    ],
    stores: words.map((i) => `${to.name}[c${id} + ${i}] = c${id}_${i};`),
  };
}

/** The array of halves whose memory an array takes, where both are accessed by 16 bytes; otherwise itself. `halves`: bytes of a word, were it of halves. */
export function homeOf(shared: SimtKernel["shared"], array: number, halves: (array: number) => number): number {
  const { over, type } = shared[array];
  const isWide = (i: number): boolean => halves(i) * (shared[i].type === "f16" ? 1 : 2) === 16;
  return over !== undefined && type !== "f16" && shared[over].type === "f16" && isWide(over) && isWide(array) ? over : array;
}
