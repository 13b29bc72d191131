// Long work on many things in short pieces, between which the event loop turns: a server that compiles still answers.

/** A piece ends with the thing during which this time is over, milliseconds. */
const PIECE_MS = 8;

/** Node's way, and a browser's, which has no shorter one for all its threads. */
const nextTurn = (): Promise<void> =>
  new Promise((resolve) => (typeof setImmediate === "function" ? setImmediate(resolve) : setTimeout(resolve)));

/** items.map(work), in turns. */
export async function mapInTurns<T, R>(items: readonly T[], work: (item: T, index: number) => R): Promise<R[]> {
  const results: R[] = [];
  let start = performance.now();
  for (const [i, item] of items.entries()) {
    if (performance.now() - start > PIECE_MS) {
      await nextTurn();
      start = performance.now();
    }
    results.push(work(item, i));
  }
  return results;
}
