// Compares numbers up to a tolerance.
import { expect } from "vitest";

/** Fails where |got − want| exceeds tolerance · (1 + |want|). */
export function expectNear(got: ArrayLike<number>, want: ArrayLike<number>, tolerance: number): void {
  expect(got.length).toBe(want.length);
  for (let i = 0; i < want.length; i++)
    if (!(Math.abs(got[i] - want[i]) <= tolerance * (1 + Math.abs(want[i])))) expect.fail(`element ${i} is ${got[i]}, wanted ${want[i]}`);
}
