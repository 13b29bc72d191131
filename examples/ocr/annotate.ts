// Draws what was read onto the photograph: a frame around each line, its number and its confidence.

import type { Image } from "../../src/formats/image.ts";
import { GLYPH_HEIGHT, GLYPH_WIDTH, GLYPHS } from "./digits.ts";
import type { Point } from "./min_area_rect.ts";
import type { Line } from "./read_text.ts";
import { readingCorners } from "./reading_order.ts";

type Color = readonly [red: number, green: number, blue: number];
const LABEL_HEIGHT = GLYPH_HEIGHT + 2; // dots
const WHITE: Color = [255, 255, 255];
/** From the surest down: the first whose bound is reached colours the frame. */
const COLORS: readonly { readonly from: number; readonly color: Color }[] = [
  { from: 0.9, color: [0, 128, 72] },
  { from: 0.75, color: [176, 98, 0] },
  { from: 0, color: [196, 24, 40] },
];

export function annotate(image: Image, lines: readonly Line[]): Image {
  const out = { ...image, data: image.data.slice() };
  const unit = Math.max(1, Math.round(Math.max(image.width, image.height) / 700)); // one dot of the font, in pixels
  for (const { corners, confidence } of lines) {
    const color = colorOf(confidence);
    for (const [i, corner] of corners.entries()) drawStroke(out, corner, corners[(i + 1) % 4], unit, color);
  }
  for (const [i, line] of lines.entries()) {
    const { confidence, turned } = line;
    const [start] = readingCorners(line);
    const below = turned === 270 ? LABEL_HEIGHT * unit : 0; // there the line runs up from its label
    drawLabel(out, `${i + 1} ${Math.floor(confidence * 100)}%`, { x: start.x, y: start.y + below }, unit, colorOf(confidence));
  }
  return out;
}

const colorOf = (confidence: number): Color => COLORS.find(({ from }) => confidence >= from)?.color ?? COLORS[COLORS.length - 1].color;

/** A line with round ends; its edge fades over one pixel. */
function drawStroke(image: Image, a: Point, b: Point, thickness: number, color: Color): void {
  const reach = thickness / 2 + 1;
  const [dx, dy] = [b.x - a.x, b.y - a.y];
  const squared = dx * dx + dy * dy || 1;
  const top = Math.max(0, Math.floor(Math.min(a.y, b.y) - reach));
  const bottom = Math.min(image.height - 1, Math.ceil(Math.max(a.y, b.y) + reach));
  const left = Math.max(0, Math.floor(Math.min(a.x, b.x) - reach));
  const right = Math.min(image.width - 1, Math.ceil(Math.max(a.x, b.x) + reach));
  for (let y = top; y <= bottom; y++) {
    for (let x = left; x <= right; x++) {
      const t = Math.min(Math.max(((x - a.x) * dx + (y - a.y) * dy) / squared, 0), 1);
      const distance = Math.hypot(x - a.x - t * dx, y - a.y - t * dy);
      blend(image, x, y, color, thickness / 2 + 0.5 - distance);
    }
  }
}

/** A tag whose lower left corner is at `at`, moved to be wholly inside the picture. */
function drawLabel(image: Image, text: string, at: Point, unit: number, color: Color): void {
  const width = (text.length * (GLYPH_WIDTH + 1) + 1) * unit;
  const height = LABEL_HEIGHT * unit;
  const left = Math.max(0, Math.min(Math.round(at.x), image.width - width));
  const top = Math.max(0, Math.min(Math.round(at.y) - height, image.height - height));
  fill(image, left, top, width, height, color);
  for (const [i, character] of [...text].entries()) {
    for (const [row, bits] of (GLYPHS[character] ?? []).entries()) {
      for (let column = 0; column < GLYPH_WIDTH; column++) {
        if (!((bits >> (GLYPH_WIDTH - 1 - column)) & 1)) continue;
        fill(image, left + (1 + i * (GLYPH_WIDTH + 1) + column) * unit, top + (1 + row) * unit, unit, unit, WHITE);
      }
    }
  }
}

function fill(image: Image, left: number, top: number, width: number, height: number, color: Color): void {
  for (let y = top; y < Math.min(top + height, image.height); y++) {
    for (let x = left; x < Math.min(left + width, image.width); x++) blend(image, x, y, color, 1);
  }
}

function blend({ width, data }: Image, x: number, y: number, color: Color, cover: number): void {
  const share = Math.min(Math.max(cover, 0), 1);
  const at = (y * width + x) * 3;
  for (let c = 0; c < 3; c++) data[at + c] += (color[c] - data[at + c]) * share;
}
