// Long work in pieces: a generator that yields wherever others may run before it goes on.

export type Pieces<R> = Generator<void, R>;

/** All pieces one after another. */
export function atOnce<R>(work: Pieces<R>): R {
  for (;;) {
    const { done, value } = work.next();
    if (done) return value;
  }
}
