// What every command is: a function from arguments to an outcome that can be printed as JSON or as text.

/** Wrong usage: one line for people, exit code 2. */
export class UsageError extends Error {}

/** Options by camel-case name, as the parser left them: strings, numbers, booleans, or lists of these where repeated. */
export type Options = Readonly<Record<string, unknown>>;

export interface Invocation {
  readonly args: readonly string[];
  readonly options: Options;
  /** Says what is being done, to whoever waits for it. */
  progress(text: string): void;
}

export interface Outcome {
  /** What --json prints. */
  readonly json: unknown;
  /** What people read; made only when it is printed. */
  text(): string;
  /** Default 0. */
  readonly exitCode?: number;
}

export type Command = (invocation: Invocation) => Promise<Outcome>;
