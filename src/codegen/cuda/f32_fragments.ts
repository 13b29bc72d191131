// Fragments of float32 on CUDA's matrix units: each element cut to tf32 and what that leaves of it, so that three products of tf32 are one of float32.
import type { SimtStmt } from "../../ir/simt.ts";

type Load = Extract<SimtStmt, { k: "loadFragment" }>;

/** Registers of a fragment: 8 elements of a thread, and 8 times what is left of them. */
export const SPLIT_REGISTERS = 16;
const ELEMENTS = 8;

/** What is left of an infinity is no number, for which the least of two gives the other: a finite one, which changes nothing. */
export const SPLIT_PRELUDE = `__device__ inline void hd_split(float x, unsigned& high, unsigned& low) {
  high = __float_as_uint(x) & 0xffffe000u;
  low = __float_as_uint(fminf(x - __uint_as_float(high), 3.0e38f));
}
`;

const LANE = "(int)(threadIdx.x & 31u)";
const upTo = (n: number): number[] => Array.from({ length: n }, (_, i) => i);
const split = (f: string, i: number, element: string): string => `hd_split(${element}, ${f}[${i}], ${f}[${ELEMENTS + i}]);`;

/** By ldmatrix, which gives each thread 4 bytes of a row of 16, where the depth runs through memory; one by one elsewhere. */
export function loadSplit(f: string, { fragment, isTransposed, stride }: Load, at: string, array: string, address: string): string[] {
  const isLeft = fragment.role === "a";
  if (isLeft === isTransposed) return upTo(ELEMENTS).map((i) => split(f, i, `${array}[${at} + ${placeOf(i, isLeft, stride)}]`));
  // Matrices of 8 rows by 4: of a, two of rows by two of depth; of b, four of depth.
  const first = isLeft ? `(${LANE} & 15) * ${stride} + (${LANE} >> 4) * 4` : `(${LANE} & 7) * ${stride} + (${LANE} >> 3) * 4`;
  return [0, 1].flatMap((half) => {
    const next = half * (isLeft ? 8 : 8 * stride);
    const words = `${f}_${half}`;
    const outs = upTo(4).map((i) => `"=r"(${words}[${i}])`);
    return [
      `unsigned ${words}[4];`,
      `asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];" : ${outs.join(", ")} : "r"(${address} + 4u * (${first} + ${next})) : "memory");`,
      ...upTo(4).map((i) => split(f, 4 * half + i, `__uint_as_float(${words}[${i}])`)),
    ];
  });
}

/** Where a thread's element i lies, counted from the fragment's first, when rows (of a), or columns (of b), run through memory. */
function placeOf(i: number, isLeft: boolean, stride: number): string {
  const [deep, aside] = isLeft ? [(i >> 2) * 8 + (i & 2) * 2, (i & 1) * 8] : [((i >> 1) & 1) * 8 + (i & 1) * 4, (i >> 2) * 8];
  return `((${LANE} & 3) + ${deep}) * ${stride} + (${LANE} >> 2) + ${aside}`;
}

/**
 * What is left by what is left is below float32's precision. Matrix units cut what they add to a sum off, instead of rounding it: they only add up the products
 * of one fragment. Both halves of the sum take turns, as each product waits for the one before it.
 */
export function multiplySplit(sum: string, a: string, b: string): string[] {
  const own = (half: number): string => `${sum}_${half}`;
  const products = [0, 1].flatMap((step) =>
    ORDER.flatMap(([lowA, lowB]) =>
      [0, 1].map((half) => {
        const sums = upTo(4).map((i) => `"+f"(${own(half)}[${i}])`);
        const left = upTo(4).map((i) => `"r"(${a}[${lowA + 4 * step + i}])`);
        const right = upTo(2).map((i) => `"r"(${b}[${lowB + 4 * half + 2 * step + i}])`);
        return `asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};" : ${sums.join(", ")} : ${[...left, ...right].join(", ")});`;
      }),
    ),
  );
  return [
    "{",
    `float ${own(0)}[4] = {}, ${own(1)}[4] = {};`,
    ...products,
    ...upTo(8).map((i) => `${sum}[${i}] += ${own(i >> 2)}[${i & 3}];`),
    "}",
  ];
}
/** Small products first. */
const ORDER = [[ELEMENTS, 0], [0, ELEMENTS], [0, 0]] as const; // biome-ignore format: one idea
