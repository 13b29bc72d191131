// Cuts a four-cornered piece out of a photograph and lays it flat.

import type { Image } from "../../src/formats/image.ts";
import { HeddleError } from "../../src/ir/error.ts";
import type { Point, Quad } from "./min_area_rect.ts";
import { sidesOf } from "./reading_order.ts";

/** Text this many times as high as wide runs down or up the picture. */
const STANDING = 1.5;

/** (x, y) → ((h0 x + h1 y + h2) / w, (h3 x + h4 y + h5) / w), w = h6 x + h7 y + 1. */
export type Homography = Float64Array;

/** The perspective map that takes each corner of `from` to the same corner of `to`. */
export function homography(from: Quad, to: Quad): Homography {
  const rows = from.flatMap(({ x, y }, i) => {
    const { x: u, y: v } = to[i];
    return [
      [x, y, 1, 0, 0, 0, -u * x, -u * y, u],
      [0, 0, 0, x, y, 1, -v * x, -v * y, v],
    ];
  });
  return solve(rows);
}

export function project(h: Homography, { x, y }: Point): Point {
  const w = h[6] * x + h[7] * y + 1;
  return { x: (h[0] * x + h[1] * y + h[2]) / w, y: (h[3] * x + h[4] * y + h[5]) / w };
}

/** Gaussian elimination with row pivots; the last column is the right-hand side. */
function solve(rows: number[][]): Float64Array {
  const n = rows.length;
  for (let i = 0; i < n; i++) {
    const pivot = rows.slice(i).reduce((best, row, j) => (Math.abs(row[i]) > Math.abs(rows[best][i]) ? i + j : best), i);
    [rows[i], rows[pivot]] = [rows[pivot], rows[i]];
    if (Math.abs(rows[i][i]) < 1e-12) throw new HeddleError("bad-input", "perspective: three of the four corners lie on one line");
    for (let r = 0; r < n; r++) {
      if (r === i) continue;
      const factor = rows[r][i] / rows[i][i];
      for (let c = i; c <= n; c++) rows[r][c] -= factor * rows[i][c];
    }
  }
  return Float64Array.from(rows, (row, i) => row[n] / row[i]);
}

const blankImage = (width: number, height: number): Image => ({ width, height, data: new Uint8Array(width * height * 3) });

/** The quadrilateral as an upright image as wide and high as its longer sides; bicubic, borders repeated. */
export function flatten(image: Image, corners: Quad): Image {
  const sides = sidesOf(corners);
  const [width, height] = [Math.max(1, Math.round(sides.width)), Math.max(1, Math.round(sides.height))];
  const flat: Quad = [
    { x: 0, y: 0 },
    { x: width, y: 0 },
    { x: width, y: height },
    { x: 0, y: height },
  ];
  const map = homography(flat, corners);
  const out = blankImage(width, height);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const p = project(map, { x, y });
      sampleBicubic(image, p.x, p.y, out.data, (y * width + x) * 3);
    }
  }
  return out;
}

/** `flatten`, then standing text is laid down by a quarter turn against the clock. */
export function cutLine(image: Image, corners: Quad): { readonly image: Image; readonly isTurned: boolean } {
  const flat = flatten(image, corners);
  const isTurned = flat.height >= STANDING * flat.width;
  return { image: isTurned ? quarterTurn(flat) : flat, isTurned };
}

export function quarterTurn(image: Image): Image {
  const out = blankImage(image.height, image.width);
  for (let y = 0; y < out.height; y++) {
    for (let x = 0; x < out.width; x++) copyPixel(image, image.width - 1 - y, x, out, x, y);
  }
  return out;
}

export function halfTurn(image: Image): Image {
  const out = blankImage(image.width, image.height);
  for (let y = 0; y < out.height; y++) {
    for (let x = 0; x < out.width; x++) copyPixel(image, out.width - 1 - x, out.height - 1 - y, out, x, y);
  }
  return out;
}

function copyPixel(from: Image, x: number, y: number, to: Image, u: number, v: number): void {
  const [source, target] = [(y * from.width + x) * 3, (v * to.width + u) * 3];
  for (let c = 0; c < 3; c++) to.data[target + c] = from.data[source + c];
}

const CUBIC = -0.75; // OpenCV's choice of Keys' parameter

/** Weights of the pixels at −1, 0, 1 and 2 for a point `t` after pixel 0 (Keys 1981). */
function cubicWeights(t: number, out: Float64Array): void {
  out[0] = ((CUBIC * (t + 1) - 5 * CUBIC) * (t + 1) + 8 * CUBIC) * (t + 1) - 4 * CUBIC;
  out[1] = ((CUBIC + 2) * t - (CUBIC + 3)) * t * t + 1;
  out[2] = ((CUBIC + 2) * (1 - t) - (CUBIC + 3)) * (1 - t) * (1 - t) + 1;
  out[3] = 1 - out[0] - out[1] - out[2];
}

const weightsX = new Float64Array(4);
const weightsY = new Float64Array(4);

function sampleBicubic({ width, height, data }: Image, x: number, y: number, out: Uint8Array, at: number): void {
  const [left, top] = [Math.floor(x), Math.floor(y)];
  cubicWeights(x - left, weightsX);
  cubicWeights(y - top, weightsY);
  for (let c = 0; c < 3; c++) {
    let sum = 0;
    for (let j = 0; j < 4; j++) {
      const row = Math.min(Math.max(top + j - 1, 0), height - 1) * width;
      let line = 0;
      for (let i = 0; i < 4; i++) line += weightsX[i] * data[(row + Math.min(Math.max(left + i - 1, 0), width - 1)) * 3 + c];
      sum += weightsY[j] * line;
    }
    out[at + c] = Math.min(Math.max(Math.round(sum), 0), 255);
  }
}
