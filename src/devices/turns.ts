// Long work in short pieces, between which the event loop turns: a server that compiles still answers.
import type { Pieces } from "../ir/pieces.ts";

/** A turn ends with the piece during which this time is over, milliseconds. */
const TURN_MS = 8;

/** Resolves in a later turn: in Node's way, or in a browser's, where timers wait for milliseconds and messages do not. */
export const nextTurn = (): Promise<void> =>
  new Promise((resolve) => {
    if (typeof setImmediate === "function") setImmediate(resolve);
    else afterMessage(resolve);
  });

function afterMessage(resolve: () => void): void {
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = () => {
    port1.close();
    resolve();
  };
  port2.postMessage(null);
}

/** All pieces, in turns of their own. */
export async function inTurns<R>(work: Pieces<R>): Promise<R> {
  for (let end = 0; ; ) {
    if (performance.now() >= end) {
      await nextTurn();
      end = performance.now() + TURN_MS;
    }
    const { done, value } = work.next();
    if (done) return value;
  }
}

/** items.map(work), in turns. */
export const mapInTurns = <T, R>(items: readonly T[], work: (item: T, index: number) => R): Promise<R[]> => inTurns(mapped(items, work));

function* mapped<T, R>(items: readonly T[], work: (item: T, index: number) => R): Pieces<R[]> {
  const results: R[] = [];
  for (const [i, item] of items.entries()) {
    results.push(work(item, i));
    yield;
  }
  return results;
}
