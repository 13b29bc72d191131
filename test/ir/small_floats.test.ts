// Every half precision number, and what lies between two of them.
import { describe, expect, it } from "vitest";
import { halfToNumber, numberToHalf, roundEven } from "../../src/ir/small_floats.ts";

const INFINITY = 0x7c00;

/** By the definition of IEEE 754. */
function byDefinition(code: number): number {
  const [exponent, fraction] = [code >> 10, code & 1023];
  return exponent === 0 ? fraction * 2 ** -24 : (1024 + fraction) * 2 ** (exponent - 25);
}

describe("half precision", () => {
  it("stands for what the definition says, with either sign", () => {
    for (let code = 0; code < INFINITY; code++) {
      expect(halfToNumber(code)).toBe(byDefinition(code));
      expect(halfToNumber(code + 0x8000)).toBe(-byDefinition(code));
    }
    expect(halfToNumber(INFINITY)).toBe(Number.POSITIVE_INFINITY);
    expect(halfToNumber(0xfc00)).toBe(Number.NEGATIVE_INFINITY);
    expect(halfToNumber(INFINITY + 1)).toBeNaN();
  });

  it("is given by the nearest code, halves by the even one", () => {
    for (let code = 0; code < INFINITY; code++) {
      const [size, next] = [byDefinition(code), byDefinition(code + 1)]; // after the largest: what would follow
      const middle = (size + next) / 2;
      const even = code % 2 === 0 ? code : code + 1;
      for (const sign of [1, -1]) {
        const of = (x: number) => numberToHalf(sign * x) - (sign < 0 ? 0x8000 : 0);
        expect([of(size), of(middle * (1 - 2 ** -50)), of(middle), of(middle * (1 + 2 ** -50))]).toEqual([code, code, even, code + 1]);
      }
    }
    expect(numberToHalf(Number.NaN)).toBe(0x7e00);
    expect([numberToHalf(1e300), numberToHalf(Number.NEGATIVE_INFINITY)]).toEqual([INFINITY, 0xfc00]);
    expect([numberToHalf(1e-320), numberToHalf(-0)]).toEqual([0, 0x8000]);
  });

  it("halves are rounded to even numbers", () => {
    expect([0.5, 1.5, 2.5, -0.5, -1.5, 2.49, -2.51].map((x) => roundEven(x) + 0)).toEqual([0, 2, 2, 0, -2, 2, -3]);
  });
});
