// What the examples' programs share: numbers of the command line, and an end that is one clear line when something is wrong.
import { HeddleError } from "../src/ir/error.ts";

/** The number that an option names; `least` is the smallest allowed. */
export function numberOption(name: string, text: string, least = 0): number {
  const number = Number(text);
  if (text.trim() === "" || !(number >= least)) throw new HeddleError("bad-argument", `--${name} is ${text}, wanted ${least} or more`);
  return number;
}

/** Runs the program and ends the process: threads that wait for work do not hold it. */
export async function runProgram(main: () => Promise<void>): Promise<never> {
  await main().catch((e: unknown) => {
    if (!(e instanceof HeddleError)) throw e;
    process.stderr.write(`${e.message}\n`);
    process.exitCode = 1;
  });
  process.exit();
}
