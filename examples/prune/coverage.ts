// Closed outlines → how much of each pixel they cover: signed areas are summed along rows (as Raph Levien's font-rs does).

export class Coverage {
  private readonly areas: Float32Array;

  constructor(
    readonly width: number,
    readonly height: number,
  ) {
    this.areas = new Float32Array(width * height + 2);
  }

  /** One stroke of an outline, y downwards. */
  line(x0: number, y0: number, x1: number, y1: number): void {
    if (y0 === y1) return;
    const sign = y0 < y1 ? 1 : -1;
    const [ax, ay, bx, by] = y0 < y1 ? [x0, y0, x1, y1] : [x1, y1, x0, y0];
    const slope = (bx - ax) / (by - ay);
    for (let row = Math.max(0, Math.floor(ay)); row < Math.min(this.height, Math.ceil(by)); row++) {
      const [top, bottom] = [Math.max(ay, row), Math.min(by, row + 1)];
      this.span(row, sign * (bottom - top), ax + (top - ay) * slope, ax + (bottom - ay) * slope);
    }
  }

  /** The part of a stroke in one row, from one place to another: all pixels to the right of it gain `height`. */
  private span(row: number, height: number, from: number, to: number): void {
    const clamp = (x: number): number => Math.min(Math.max(x, 0), this.width - 1);
    const [left, right] = [clamp(Math.min(from, to)), clamp(Math.max(from, to))];
    const [first, last] = [Math.floor(left), Math.ceil(right)];
    const at = row * this.width;
    if (last <= first + 1) {
      const middle = (left + right) / 2 - first;
      this.areas[at + first] += height * (1 - middle);
      this.areas[at + first + 1] += height * middle;
      return;
    }
    const perPixel = height / (right - left);
    let before = 0;
    for (let x = first; x < last; x++) {
      const [a, b] = [Math.max(left, x), Math.min(right, x + 1)];
      const covered = perPixel * ((b - a) * (x + 1 - (a + b) / 2)); // of this pixel, by what has passed in it
      const passed = perPixel * (a - left);
      this.areas[at + x] += passed + covered - before;
      before = passed + covered;
    }
    this.areas[at + last] += height - before;
  }

  /** 0 to 1 for each pixel. */
  sums(): Float32Array {
    const out = new Float32Array(this.width * this.height);
    let sum = 0;
    for (let i = 0; i < out.length; i++) {
      if (i % this.width === 0) sum = 0;
      sum += this.areas[i];
      out[i] = Math.min(1, Math.abs(sum));
    }
    return out;
  }
}
