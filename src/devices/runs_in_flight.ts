// Runs that have not ended yet, and what waits until none is left: memory and code are given back only then.
export class RunsInFlight {
  private count = 0;
  private readonly waiting: (() => void)[] = [];

  /** Counts an asynchronous run until it settles. */
  async track<T>(start: () => Promise<T>): Promise<T> {
    this.count++;
    try {
      return await start();
    } finally {
      if (--this.count === 0) for (const action of this.waiting.splice(0)) action();
    }
  }

  /** Does it at once where nothing runs. */
  whenIdle(action: () => void): void {
    if (this.count === 0) action();
    else this.waiting.push(action);
  }
}
