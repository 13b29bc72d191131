// A TrueType file → outlines and widths of its characters (Apple's and Microsoft's specification: tables head, maxp, cmap, loca, glyf, hhea, hmtx).
import { HeddleError } from "../../src/ir/error.ts";

/** In font units, y upwards; a point off the curve bends it between its neighbours. */
interface OutlinePoint {
  readonly x: number;
  readonly y: number;
  readonly isOn: boolean;
}
type Contour = readonly OutlinePoint[];

export interface Glyph {
  readonly contours: readonly Contour[];
  readonly advance: number;
}

export interface Font {
  readonly unitsPerEm: number;
  /** Null where the font lacks the character. */
  glyph(character: string): Glyph | null;
}

/** Bits of a simple glyph's points and of a compound glyph's parts. */
const POINT = { onCurve: 1, shortX: 2, shortY: 4, repeat: 8, sameX: 16, sameY: 32 } as const;
const PART = { words: 1, offsets: 2, scale: 8, more: 32, scales: 64, matrix: 128 } as const;
const MAX_DEPTH = 5;

export function readFont(bytes: Uint8Array, name: string): Font {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const tables = new Map<string, number>();
  for (let i = 0; i < view.getUint16(4); i++)
    tables.set(String.fromCharCode(...bytes.subarray(12 + i * 16, 16 + i * 16)), view.getUint32(20 + i * 16));
  const table = (tag: string): number => {
    const at = tables.get(tag);
    if (at === undefined) throw new HeddleError("bad-input", `${name}: no table ${tag}; wanted a TrueType font`);
    return at;
  };
  const [head, loca, glyf, hmtx] = [table("head"), table("loca"), table("glyf"), table("hmtx")];
  const metrics = view.getUint16(table("hhea") + 34);
  const isLong = view.getInt16(head + 50) === 1;
  const place = (glyph: number): number => (isLong ? view.getUint32(loca + glyph * 4) : view.getUint16(loca + glyph * 2) * 2);
  const numbers = characterMap(view, table("cmap"));
  const contoursOf = (glyph: number, depth = 0): Contour[] => {
    if (place(glyph) === place(glyph + 1) || depth > MAX_DEPTH) return [];
    const at = glyf + place(glyph);
    const count = view.getInt16(at);
    return count >= 0 ? simpleContours(view, at + 10, count) : compound(view, at + 10, (part) => contoursOf(part, depth + 1));
  };
  return {
    unitsPerEm: view.getUint16(head + 18),
    glyph(character) {
      const number = numbers(character.codePointAt(0)!); // texts are not empty
      if (number === 0) return null;
      return { contours: contoursOf(number), advance: view.getUint16(hmtx + Math.min(number, metrics - 1) * 4) };
    },
  };
}

/** Glyph numbers by code point, from a table of format 4 (the Basic Multilingual Plane); 0: there is none. */
function characterMap(view: DataView, cmap: number): (code: number) => number {
  for (let i = 0; i < view.getUint16(cmap + 2); i++) {
    const at = cmap + view.getUint32(cmap + 8 + i * 8);
    if (view.getUint16(at) !== 4) continue;
    const twice = view.getUint16(at + 6);
    return (code) => {
      for (let s = 0; s < twice; s += 2) {
        if (code > view.getUint16(at + 14 + s)) continue;
        const first = view.getUint16(at + 16 + twice + s);
        if (code < first) return 0;
        const delta = view.getInt16(at + 16 + 2 * twice + s);
        const offsets = at + 16 + 3 * twice + s;
        const offset = view.getUint16(offsets);
        if (offset === 0) return (code + delta) & 0xffff;
        const number = view.getUint16(offsets + offset + (code - first) * 2);
        return number === 0 ? 0 : (number + delta) & 0xffff;
      }
      return 0;
    };
  }
  return () => 0;
}

function simpleContours(view: DataView, start: number, count: number): Contour[] {
  const ends = Array.from({ length: count }, (_, i) => view.getUint16(start + i * 2));
  const total = (ends.at(-1) ?? -1) + 1;
  let at = start + count * 2;
  at += 2 + view.getUint16(at); // hinting
  const flags: number[] = [];
  while (flags.length < total) {
    const flag = view.getUint8(at++);
    const repeats = flag & POINT.repeat ? view.getUint8(at++) : 0;
    for (let i = 0; i <= repeats; i++) flags.push(flag);
  }
  const coordinates = (short: number, same: number): number[] => {
    let value = 0;
    return flags.map((flag) => {
      if (flag & short) value += flag & same ? view.getUint8(at++) : -view.getUint8(at++);
      else if (!(flag & same)) {
        value += view.getInt16(at);
        at += 2;
      }
      return value;
    });
  };
  const xs = coordinates(POINT.shortX, POINT.sameX);
  const ys = coordinates(POINT.shortY, POINT.sameY);
  const points = flags.map((flag, i) => ({ x: xs[i], y: ys[i], isOn: (flag & POINT.onCurve) !== 0 }));
  return ends.map((end, i) => points.slice(i === 0 ? 0 : ends[i - 1] + 1, end + 1));
}

/** Other glyphs, moved and scaled: letters with accents. */
function compound(view: DataView, start: number, part: (glyph: number) => Contour[]): Contour[] {
  const contours: Contour[] = [];
  let at = start;
  let flags: number = PART.more;
  while (flags & PART.more) {
    flags = view.getUint16(at);
    const glyph = view.getUint16(at + 2);
    at += 4;
    const isWide = flags & PART.words;
    const [dx, dy] = isWide ? [view.getInt16(at), view.getInt16(at + 2)] : [view.getInt8(at), view.getInt8(at + 1)];
    at += isWide ? 4 : 2;
    const count = flags & PART.matrix ? 4 : flags & PART.scales ? 2 : flags & PART.scale ? 1 : 0;
    const s = Array.from({ length: count }, (_, i) => view.getInt16(at + i * 2) / 16384);
    at += count * 2;
    const [a, b, c, d] = count === 4 ? s : count === 2 ? [s[0], 0, 0, s[1]] : count === 1 ? [s[0], 0, 0, s[0]] : [1, 0, 0, 1];
    const [x, y] = flags & PART.offsets ? [dx, dy] : [0, 0];
    for (const contour of part(glyph))
      contours.push(contour.map((p) => ({ x: a * p.x + c * p.y + x, y: b * p.x + d * p.y + y, isOn: p.isOn })));
  }
  return contours;
}

/** Straight strokes around a contour: each bend in so many pieces. */
const PIECES = 6;

/** Calls back with the corners of each stroke of the outline. */
export function strokes(contour: Contour, draw: (x0: number, y0: number, x1: number, y1: number) => void): void {
  const count = contour.length;
  if (count < 2) return;
  const middle = (p: OutlinePoint, q: OutlinePoint): OutlinePoint => ({ x: (p.x + q.x) / 2, y: (p.y + q.y) / 2, isOn: true });
  const [first, last] = [contour[0], contour[count - 1]];
  let from = first.isOn ? first : last.isOn ? last : middle(first, last);
  const start = first.isOn ? 1 : 0;
  for (let i = start; i < count + start; i++) {
    const p = contour[i % count];
    if (p.isOn) {
      draw(from.x, from.y, p.x, p.y);
      from = p;
      continue;
    }
    const next = contour[(i + 1) % count];
    const to = next.isOn ? next : middle(p, next);
    let [x, y] = [from.x, from.y];
    for (let k = 1; k <= PIECES; k++) {
      const t = k / PIECES;
      const [a, b, c] = [(1 - t) ** 2, 2 * t * (1 - t), t * t];
      const [u, v] = [a * from.x + b * p.x + c * to.x, a * from.y + b * p.y + c * to.y];
      draw(x, y, u, v);
      [x, y] = [u, v];
    }
    from = to;
  }
}
