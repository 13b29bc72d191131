// What a command is doing → stderr: at once on a terminal, elsewhere only when it takes long.

export interface Progress {
  say(text: string): void;
  /** Takes the last line off a terminal. */
  clear(): void;
}

/** Silence longer than this would look like a hang in a log. */
const PATIENCE_MS = 5000;

export function createProgress(stream: NodeJS.WriteStream = process.stderr): Progress {
  let last = performance.now();
  let isShown = false;
  return {
    say(text) {
      if (stream.isTTY) {
        stream.write(`\r\x1b[K${text}`);
        isShown = true;
      } else if (performance.now() - last > PATIENCE_MS) {
        stream.write(`heddle: ${text}\n`);
        last = performance.now();
      }
    },
    clear() {
      if (isShown) stream.write("\r\x1b[K");
      isShown = false;
    },
  };
}
