// Square tiles turned around in registers: as many vectors as a vector has lanes, whose rows become columns.
import type { KernelBuilder, Vec } from "../ir/kernel.ts";
import type { VecOp } from "../ir/kernel_ops.ts";

/** Lanes in which every target shuffles alike. */
const FOUR = 4;

/** Result j is lane j of each row. First fours of rows are turned inside each four of lanes, then the fours change places as wholes. */
export function transposeTile(b: KernelBuilder, rows: readonly Vec[]): Vec[] {
  const turned: Vec[][] = Array.from({ length: FOUR }, () => []);
  for (let r = 0; r < rows.length; r += FOUR)
    for (const [j, column] of turnFours(b, rows.slice(r, r + FOUR)).entries()) turned[j].push(column);
  const columns: Vec[] = [];
  for (const [j, parts] of turned.entries()) for (const [f, column] of sortFours(b, parts).entries()) columns[FOUR * f + j] = column;
  return columns;
}

function turnFours(b: KernelBuilder, [r0, r1, r2, r3]: readonly Vec[]): Vec[] {
  const [low, lowOther] = [b.op("zipl", r0, r1), b.op("zipl", r2, r3)];
  const [high, highOther] = [b.op("ziph", r0, r1), b.op("ziph", r2, r3)];
  return [b.op("pairl", low, lowOther), b.op("pairh", low, lowOther), b.op("pairl", high, highOther), b.op("pairh", high, highOther)];
}

/** Result f has four number f of each part. */
function sortFours(b: KernelBuilder, parts: readonly Vec[]): Vec[] {
  if (parts.length === 1) return [parts[0]];
  const halves = (op: VecOp): Vec[] => {
    const pairs = Array.from({ length: parts.length / 2 }, (_, i) => b.op(op, parts[2 * i], parts[2 * i + 1]));
    return sortFours(b, pairs);
  };
  const [even, odd] = [halves("quadl"), halves("quadh")];
  return even.flatMap((v, i) => [v, odd[i]]);
}
