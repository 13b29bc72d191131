// The command `heddle`: parses the command line, runs one command, prints its outcome, and makes one line and an exit code of what goes wrong.
import { type CAC, cac } from "cac";
import { HeddleError } from "../ir/error.ts";
import { type Invocation, type Outcome, UsageError } from "./command.ts";
import { heddleVersion } from "./packages.ts";
import { createProgress } from "./progress.ts";
import { COMMANDS } from "./table_of_commands.ts";

const NAME = "heddle";
const FAILED = 1;
const WRONG_USAGE = 2;
/** 128 and the signal's number, as shells say it. */
const INTERRUPTED = 130;
const TERMINATED = 143;

async function defineCommands([name, ...rest]: readonly string[]): Promise<CAC> {
  const cli = cac(NAME);
  for (const { usage, summary, options, examples, moreOptions, load } of COMMANDS) {
    const command = cli.command(usage, summary);
    const more = command.name === name ? await moreOptions?.(rest) : undefined;
    for (const [flag, text] of [...options, ...(more ?? [])]) command.option(flag, text);
    for (const example of examples) command.example(`  $ ${NAME} ${example}`);
    const isWithArgument = usage.includes("<");
    // The parser calls with the positional argument, where there is one, and the options.
    command.action(async (...given: unknown[]) => {
      const args = isWithArgument ? [String(given[0])] : [];
      await perform(load, args, given[isWithArgument ? 1 : 0] as Invocation["options"]);
    });
  }
  cli.example(`  $ ${NAME} bench model.onnx --shape x=1x3x48x320`);
  cli.help();
  cli.version(heddleVersion());
  return cli;
}

async function perform(load: (typeof COMMANDS)[number]["load"], args: readonly string[], options: Invocation["options"]): Promise<void> {
  const progress = createProgress();
  try {
    const command = await load();
    const outcome = await command({ args, options, progress: progress.say });
    progress.clear();
    print(outcome, options.json === true);
  } finally {
    progress.clear();
  }
}

/** JSON has no infinities: they become null. */
function print(outcome: Outcome, isJson: boolean): void {
  process.stdout.write(isJson ? `${JSON.stringify(outcome.json, null, 2)}\n` : `${outcome.text().trimEnd()}\n`);
  process.exitCode = outcome.exitCode ?? 0;
}

/** One line; HEDDLE_DEBUG adds the stack. `commandName`: with a space before it, or empty. */
function fail(error: unknown, commandName: string): void {
  const isUsage = error instanceof UsageError || (error instanceof Error && error.name === "CACError"); // the parser's own, not exported
  const line = error instanceof Error ? error.message.replace(/\s*\n\s*/g, " ") : String(error);
  process.stderr.write(`${NAME}: ${line}${isUsage ? `; see ${NAME}${commandName} --help` : ""}\n`);
  if (process.env.HEDDLE_DEBUG && error instanceof Error) process.stderr.write(`${error.stack}\n`);
  const isArgument = error instanceof HeddleError && error.code === "bad-argument";
  process.exitCode = isUsage || isArgument ? WRONG_USAGE : FAILED;
}

/** `heddle … | head`: whoever read the output has gone, which is not an error of ours. */
function handleSignals(): void {
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code !== "EPIPE") throw error;
    process.exit(process.exitCode ?? 0);
  });
  process.on("SIGINT", () => process.exit(INTERRUPTED));
  process.on("SIGTERM", () => process.exit(TERMINATED));
  process.on("uncaughtException", (error) => {
    fail(error, "");
    process.exit(process.exitCode);
  });
}

async function main(): Promise<void> {
  handleSignals();
  let cli: CAC | undefined;
  try {
    cli = await defineCommands(process.argv.slice(2));
    cli.parse(process.argv, { run: false });
    if (cli.matchedCommand) await cli.runMatchedCommand();
    else if (cli.options.help !== true && cli.options.version !== true) refuse(cli);
  } catch (error) {
    fail(error, cli?.matchedCommand ? ` ${cli.matchedCommand.name}` : "");
  }
}

function refuse(cli: CAC): void {
  if (cli.args.length > 0)
    throw new UsageError(`there is no command ${cli.args[0]}; commands: ${cli.commands.map((c) => c.name).join(", ")}`);
  cli.outputHelp();
  process.exitCode = WRONG_USAGE;
}

await main();
