// Text → tokens with line numbers, for the graph parser.
import { HeddleError } from "./error.ts";

/** Position in a text. `next` and `take` skip spaces and line ends. */
export class Scanner {
  private at = 0;
  constructor(private readonly text: string) {}

  /** Whether the text goes on with `literal`. */
  isNext(literal: string): boolean {
    this.skip();
    return this.text.startsWith(literal, this.at);
  }

  isEnd(): boolean {
    this.skip();
    return this.at >= this.text.length;
  }

  /** Takes `literal` if it is next. */
  take(literal: string): boolean {
    if (!this.isNext(literal)) return false;
    this.at += literal.length;
    return true;
  }

  expect(literal: string): void {
    if (!this.take(literal)) throw this.error(`wanted ${JSON.stringify(literal)}`);
  }

  /** Takes what a sticky expression matches here; undefined: nothing. */
  match(pattern: RegExp): string | undefined {
    this.skip();
    pattern.lastIndex = this.at;
    const found = pattern.exec(this.text)?.[0];
    if (found !== undefined) this.at += found.length;
    return found;
  }

  expectMatch(pattern: RegExp, what: string): string {
    const found = this.match(pattern);
    if (found === undefined) throw this.error(`wanted ${what}`);
    return found;
  }

  /** The rest of the line after `mark`, if `mark` comes before the line's end. */
  comment(mark: string): string {
    while (this.text[this.at] === " ") this.at++;
    if (!this.text.startsWith(mark, this.at)) return "";
    const end = this.text.indexOf("\n", this.at);
    const rest = this.text.slice(this.at + mark.length, end < 0 ? undefined : end).trim();
    this.at = end < 0 ? this.text.length : end;
    return rest;
  }

  error(why: string): HeddleError {
    const line = this.text.slice(0, this.at).split("\n").length;
    const found = JSON.stringify(this.text.slice(this.at, this.at + 20).split("\n")[0]);
    return new HeddleError("bad-argument", `graph text, line ${line}: ${why}, found ${found}`);
  }

  private skip(): void {
    while (/\s/.test(this.text[this.at] ?? "x")) this.at++;
  }
}
