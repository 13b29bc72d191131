// Runs other programs for the scripts: never waits for input, never for ever, and says in one line what went wrong.
import { spawnSync } from "node:child_process";
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

/** The repository. */
export const root = fileURLToPath(new URL("..", import.meta.url));

/** A failure that needs no stack trace: its message says what to do. */
export class Failure extends Error {}

/** Progress goes to stderr, results to stdout. */
export const say = (text) => process.stderr.write(`${text}\n`);

/** Runs with our stdout and stderr; returns the exit status, 124 when it took longer than `minutes`. */
export function run(command, args, { minutes = 60, env, cwd = root } = {}) {
  const { status, error, signal } = spawnSync(command, args, {
    cwd,
    env: { ...process.env, ...env },
    stdio: ["ignore", "inherit", "inherit"],
    timeout: minutes * 60_000,
    killSignal: "SIGKILL",
  });
  if (error?.code === "ETIMEDOUT") {
    say(`${command}: stopped after ${minutes} minutes`);
    return 124;
  }
  if (error) {
    say(`${command}: ${error.message}`);
    return 127;
  }
  if (signal) say(`${command}: ended by ${signal}`);
  return status ?? 1;
}

/** Runs silently; returns the exit status and all that it printed. Written to a file: a pipe would be held open by grandchildren after a time-out. */
export function capture(command, args, { minutes = 10, env, cwd = root } = {}) {
  const folder = mkdtempSync(join(tmpdir(), "heddle-"));
  const log = openSync(join(folder, "log"), "w");
  try {
    const { status, error } = spawnSync(command, args, {
      cwd,
      env: { ...process.env, ...env },
      stdio: ["ignore", log, log],
      timeout: minutes * 60_000,
      killSignal: "SIGKILL",
    });
    const late = error?.code === "ETIMEDOUT" ? `${command}: no end after ${minutes} minutes\n` : "";
    const absent = error?.code === "ENOENT" ? `${command}: not found\n` : "";
    return { status: status ?? 1, output: readFileSync(join(folder, "log"), "utf8") + late + absent };
  } finally {
    closeSync(log);
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Times what is in front of a reader: `setup … 8.1 s`. */
export async function step(name, action) {
  const start = performance.now();
  say(`── ${name}`);
  const result = await action();
  say(`── ${name}: ${((performance.now() - start) / 1000).toFixed(1)} s`);
  return result;
}

/** Ends a script: a Failure prints its line, anything else its stack. */
export async function main(action) {
  try {
    process.exitCode = (await action(process.argv.slice(2))) ?? 0;
  } catch (error) {
    say(error instanceof Failure ? `\n${error.message}` : error.stack);
    process.exitCode = 1;
  }
}

/** True in the script that node was started with. */
export const isMain = (url) => process.argv[1] !== undefined && fileURLToPath(url) === process.argv[1];
