// What the parts of the page share: its status line, its one error line, and the place for results.

export interface Page {
  /** What is going on, also for readers of screens. */
  say(text: string): void;
  /** Replaces what is shown. */
  show(...parts: readonly HTMLElement[]): void;
  /** Adds to it. */
  add(...parts: readonly HTMLElement[]): void;
}

export function openPage(
  status: HTMLElement,
  error: HTMLElement,
  result: HTMLElement,
): Page & { fail(cause: unknown): void; begin(): void } {
  return {
    say(text) {
      status.textContent = text;
    },
    show: (...parts) => result.replaceChildren(...parts),
    add: (...parts) => result.append(...parts),
    begin() {
      error.hidden = true;
    },
    fail(cause) {
      error.textContent = cause instanceof Error ? cause.message : String(cause);
      error.hidden = false;
      status.textContent = "It did not work.";
    },
  };
}
