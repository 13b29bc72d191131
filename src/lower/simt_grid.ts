// Workgroups by number: grids of targets that limit each axis.
import { fn, group, type Reg, type SimtTarget, sum } from "../ir/simt.ts";

/** Workgroups in as few rows as the target allows. */
export function gridOf(groups: number, { maxGroups }: SimtTarget): readonly [number, number, number] {
  const y = Math.ceil(groups / maxGroups);
  return [Math.ceil(groups / y), y, 1];
}
/** Number of the workgroup in such a grid. */
export const linearGroup = ([x, y]: readonly [number, number, number]): Reg => (y === 1 ? group(0) : sum(fn("mul", group(1), x), group(0)));
