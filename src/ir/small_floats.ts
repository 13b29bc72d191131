// Floats of fewer bits than 32: what their codes stand for, and the code nearest to a number.
const f32Bits = new Float32Array(1);
const u32Bits = new Uint32Array(f32Bits.buffer);

/** Rounds half to even; below 2⁵¹. */
export const roundEven = (x: number): number => x + 1.5 * 2 ** 52 - 1.5 * 2 ** 52;

/** The size that a code without its sign stands for by its format's rule, also beyond the largest number: an exponent above `fraction` bits, `bias` more than it is. */
export function sizeOfCode(code: number, fraction: number, bias: number): number {
  u32Bits[0] = code << (23 - fraction);
  return f32Bits[0] * 2 ** (127 - bias);
}

/** The code without sign nearest to a size below infinity, halves to even; any that is larger than the format's for sizes beyond it. */
export function nearestCode(size: number, fraction: number, bias: number): number {
  f32Bits[0] = size;
  const exponent = Math.max((u32Bits[0] >>> 23) - 127, 1 - bias);
  u32Bits[0] = (exponent - fraction + 127) << 23; // the step between two codes there
  return (exponent + bias - 1) * 2 ** fraction + roundEven(Math.min(size / f32Bits[0], 2 ** 24)); // what rounds up to the next exponent is its first code
}

/** IEEE half precision bits → value. */
export function halfToNumber(h: number): number {
  const code = h & 0x7fff;
  const size = code < 0x7c00 ? sizeOfCode(code, 10, 15) : code === 0x7c00 ? Number.POSITIVE_INFINITY : Number.NaN;
  return h & 0x8000 ? -size : size;
}

/** Value → IEEE half precision bits, rounded to nearest even. */
export function numberToHalf(x: number): number {
  if (Number.isNaN(x)) return 0x7e00;
  const sign = x < 0 || Object.is(x, -0) ? 0x8000 : 0;
  const size = Math.abs(x);
  return sign + (size < 65520 ? nearestCode(size, 10, 15) : 0x7c00);
}

/** bfloat16 bits → value. */
export function bf16ToNumber(b: number): number {
  u32Bits[0] = b << 16;
  return f32Bits[0];
}

/** Value → bfloat16 bits, rounded to nearest even. */
export function numberToBf16(x: number): number {
  if (Number.isNaN(x)) return 0x7fc0;
  f32Bits[0] = x;
  const u = u32Bits[0];
  return ((u + 0x7fff + ((u >>> 16) & 1)) >>> 16) & 0xffff;
}
