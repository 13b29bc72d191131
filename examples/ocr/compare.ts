// Times the three networks in heddle and in onnxruntime side by side, and says how far their answers differ.
import { performance } from "node:perf_hooks";
import { setTimeout as pause } from "node:timers/promises";
import type { Image } from "../../src/formats/image.ts";
import type { FloatTensor, Net, Nets } from "./net.ts";
import { ORIENT_SIZE } from "./orient.ts";
import { cutLine } from "./perspective.ts";
import type { Line } from "./read_text.ts";
import { LINE_HEIGHT, RECOGNIZE_DEFAULTS } from "./recognize.ts";
import { IMAGENET, SIGNED, toTensor } from "./resize.ts";

export interface Comparison {
  readonly name: string;
  readonly shape: readonly number[];
  /** Medians. */
  readonly heddleMs: number;
  readonly onnxruntimeMs: number;
  /** Largest difference over onnxruntime's largest value. */
  readonly maxRelativeError: number;
}

export interface CompareOptions {
  /** Turns of each engine for one network. */
  readonly rounds?: number;
  /** Time that one turn fills with runs: at least one. */
  readonly turnMs?: number;
}

export const COMPARE_DEFAULTS = { rounds: 7, turnMs: 40 } as const;

/** Both engines' worker threads spin for a while after a run: wait until they sleep, so that neither takes the other's cores. */
const SETTLE_MS = 40;
const DETECT_SIDE = 640;

/** What the networks are compared on: the photograph itself, and its first line. */
export function comparisonInputs(image: Image, lines: readonly Line[]): Readonly<Record<"detect" | "recognize" | "orient", FloatTensor>> {
  const line = lines.length > 0 ? cutLine(image, lines[0].corners).image : image;
  return {
    detect: toTensor(image, DETECT_SIDE, DETECT_SIDE, IMAGENET),
    recognize: toTensor(line, RECOGNIZE_DEFAULTS.minWidth, LINE_HEIGHT, SIGNED),
    orient: toTensor(line, ORIENT_SIZE.width, ORIENT_SIZE.height, SIGNED),
  };
}

export async function compareNets(
  heddle: Nets,
  onnxruntime: Nets,
  inputs: ReturnType<typeof comparisonInputs>,
  options: CompareOptions = {},
): Promise<Comparison[]> {
  const names = { detect: "detection", recognize: "recognition", orient: "orientation" } as const;
  const out: Comparison[] = [];
  for (const key of ["detect", "recognize", "orient"] as const) {
    const x = inputs[key];
    const maxRelativeError = relativeError((await heddle[key].run(x)).data, (await onnxruntime[key].run(x)).data);
    const [heddleMs, onnxruntimeMs] = await interleavedMedians([heddle[key], onnxruntime[key]], x, options);
    out.push({ name: names[key], shape: x.shape, heddleMs, onnxruntimeMs, maxRelativeError });
  }
  return out;
}

/** Engines take turns, so that a slow moment of the machine meets all of them; each turn begins with a run that is not timed. */
async function interleavedMedians(nets: readonly Net[], x: FloatTensor, options: CompareOptions): Promise<number[]> {
  const { rounds, turnMs } = { ...COMPARE_DEFAULTS, ...options };
  const times = nets.map((): number[] => []);
  for (let round = 0; round < rounds; round++) {
    for (const [i, net] of nets.entries()) {
      await pause(SETTLE_MS);
      await net.run(x);
      const end = performance.now() + turnMs;
      do {
        const start = performance.now();
        await net.run(x);
        times[i].push(performance.now() - start);
      } while (performance.now() < end);
    }
  }
  return times.map(median);
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** NaN anywhere, or another length, is an infinite error. */
export function relativeError(got: Float32Array, wanted: Float32Array): number {
  if (got.length !== wanted.length) return Number.POSITIVE_INFINITY;
  let difference = 0;
  let largest = 0;
  for (let i = 0; i < got.length; i++) {
    const d = Math.abs(got[i] - wanted[i]);
    if (Number.isNaN(d)) return Number.POSITIVE_INFINITY;
    if (d > difference) difference = d;
    if (Math.abs(wanted[i]) > largest) largest = Math.abs(wanted[i]);
  }
  return difference === 0 ? 0 : difference / largest;
}
