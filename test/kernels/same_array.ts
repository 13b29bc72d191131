// Large arrays are compared at once: a matcher that looks at each element takes minutes.
import { expect } from "vitest";

/** The same type and the same numbers: zeros have signs. */
export function expectSameArray(got: ArrayLike<number>, wanted: ArrayLike<number>, what: string): void {
  expect([what, got.constructor.name, got.length]).toEqual([what, wanted.constructor.name, wanted.length]);
  for (let i = 0; i < wanted.length; i++) if (!Object.is(got[i], wanted[i])) expect.fail(`${what}[${i}] is ${got[i]}, wanted ${wanted[i]}`);
}
