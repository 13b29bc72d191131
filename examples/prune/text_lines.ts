// A seed → a picture of one line of print and what it says: words, numbers and codes in a random font, size, colour, slant, blur and noise.
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { Random } from "../../src/data/random.ts";
import type { Image } from "../../src/formats/image.ts";
import { HeddleError } from "../../src/ir/error.ts";
import { Coverage } from "./coverage.ts";
import { type Font, readFont, strokes } from "./true_type.ts";

/** Where Debian's fonts-dejavu and fonts-liberation are. */
const FOLDERS = ["/usr/share/fonts/truetype/dejavu", "/usr/share/fonts/truetype/liberation"];

export interface TextLine {
  readonly image: Image;
  readonly text: string;
}

const WORDS = `the of and to in is for with on that by this from are at be not all new more total tax date order number item price paid
cash card change receipt invoice table street road city open monday tuesday friday sunday march april august october december morning
coffee tea milk bread butter apple orange sugar water paper book letter window garden house river mountain summer winter quick brown fox
jumps over lazy dog company limited office phone service customer account balance payment delivery quality thank you welcome please visit
again north south east west left right upper lower green white black yellow silver golden simple network engine weight layer sparse`.split(
  /\s+/,
);

/** Fonts that print letters and figures; symbols' fonts are left out. Throws HeddleError ("missing"). */
export async function readFonts(folders: readonly string[] = FOLDERS): Promise<Font[]> {
  const lists = await Promise.all(
    folders.map(async (folder) => {
      const names = await readdir(folder).catch(() => []); // the next line tells when nothing is found
      return names.filter((name) => name.endsWith(".ttf") && !/Math|ExtraLight/.test(name)).map((name) => join(folder, name));
    }),
  );
  const files = lists.flat().sort();
  if (files.length === 0)
    throw new HeddleError("missing", `no TrueType fonts in ${folders.join(", ")}; apt-get install fonts-dejavu-core fonts-liberation`);
  return Promise.all(files.map(async (file) => readFont(await readFile(file), file)));
}

const pick = <T>(random: Random, from: readonly T[]): T => from[random.below(from.length)];
const between = (random: Random, low: number, high: number): number => low + (high - low) * random.uniform();

function word(random: Random): string {
  const kind = random.uniform();
  const digits = (n: number): string => Array.from({ length: n }, () => random.below(10)).join("");
  if (kind < 0.12) return `${random.below(200)}.${digits(2)}`;
  if (kind < 0.2) return digits(2 + random.below(5));
  if (kind < 0.25) return `${1 + random.below(28)}/${1 + random.below(12)}/20${digits(2)}`;
  if (kind < 0.3) return `${pick(random, ["A", "K", "R", "T", "X"])}-${digits(3)}`;
  const plain = pick(random, WORDS);
  const style = random.uniform();
  if (style < 0.25) return plain.toUpperCase();
  return style < 0.6 ? plain[0].toUpperCase() + plain.slice(1) : plain;
}

/** Widest line, in heights of the strip: 320 pixels at the network's 48. */
const MAX_ASPECT = 320 / 48;

const widthOf = (font: Font, text: string): number => [...text].reduce((n, c) => n + (font.glyph(c)?.advance ?? 0), 0) / font.unitsPerEm;

/** The same seed gives the same line. */
export function renderLine(fonts: readonly Font[], seed: number): TextLine {
  const random = new Random(seed);
  const font = pick(random, fonts);
  const [size, above, below, side] = [
    between(random, 22, 44),
    between(random, 0.05, 0.25),
    between(random, 0.28, 0.42),
    between(random, 0.1, 0.4),
  ];
  const height = Math.round(size * (0.78 + above + below));
  const room = (height * MAX_ASPECT) / size - 2 * side - 0.4;
  let text = word(random);
  for (let next = word(random); widthOf(font, `${text} ${next}`) < room && random.uniform() < 0.85; next = word(random)) text += ` ${next}`;
  const width = Math.round(Math.min(height * MAX_ASPECT, size * (widthOf(font, text) + 2 * side)));
  const cover = new Coverage(width, height);
  const slant = between(random, -0.08, 0.08);
  const rise = between(random, -0.012, 0.012);
  let pen = size * side;
  const base = size * (0.78 + above);
  for (const character of text) {
    const glyph = font.glyph(character);
    const scale = size / font.unitsPerEm;
    const x = (u: number, v: number): number => pen + scale * (u + slant * v);
    const y = (u: number, v: number): number => base - scale * v + rise * (x(u, v) - width / 2);
    for (const contour of glyph?.contours ?? []) strokes(contour, (a, b, c, d) => cover.line(x(a, b), y(a, b), x(c, d), y(c, d)));
    pen += scale * (glyph?.advance ?? 0);
  }
  return { image: printed(cover, random), text };
}

/** Ink on paper: colours, uneven light, blur, noise. */
function printed(cover: Coverage, random: Random): Image {
  const { width, height } = cover;
  const isDark = random.uniform() < 0.15;
  const [ink, paper] = [
    Array.from({ length: 3 }, () => between(random, 0, 80)),
    Array.from({ length: 3 }, () => between(random, 180, 250)),
  ];
  const [front, back] = isDark ? [paper, ink] : [ink, paper];
  const soft = blurred(cover.sums(), width, height, random.below(3));
  const [light, noise] = [between(random, -25, 25), between(random, 0, 12)];
  const data = new Uint8Array(width * height * 3);
  for (let i = 0; i < width * height; i++) {
    const shade = light * ((i % width) / width - 0.5) + noise * (random.uniform() + random.uniform() - 1);
    for (let c = 0; c < 3; c++) data[i * 3 + c] = Math.min(255, Math.max(0, back[c] + (front[c] - back[c]) * soft[i] + shade));
  }
  return { width, height, data };
}

/** So many times the mean of three neighbours, along rows and columns. */
function blurred(values: Float32Array, width: number, height: number, times: number): Float32Array {
  let from = values;
  for (let pass = 0; pass < 2 * times; pass++) {
    const [step, count] = pass % 2 === 0 ? [1, width] : [width, height];
    const to = new Float32Array(from.length);
    for (let i = 0; i < from.length; i++) {
      const at = step === 1 ? i % width : Math.floor(i / width);
      const [before, after] = [at > 0 ? from[i - step] : from[i], at < count - 1 ? from[i + step] : from[i]];
      to[i] = (before + 2 * from[i] + after) / 4;
    }
    from = to;
  }
  return from;
}
