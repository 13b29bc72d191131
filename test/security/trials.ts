// Runs trials in processes that may die, a batch in each, and tells which model did what to its process.
import { spawn } from "node:child_process";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { bundle, root } from "../bundle.ts";
import type { Result, Trial } from "./trial.ts";

/** A process that says nothing for so long hangs. */
const SILENCE_MS = 30_000;
const BATCH = 100;

export interface Ended extends Result {
  readonly trial: Trial;
}

interface Numbered {
  readonly id: number;
  readonly trial: Trial;
}

/** A bundle of trial.ts, in a folder below the repository, so that it finds packages. */
export class TrialRunner implements Disposable {
  private readonly folder = join(root, "build", `trials-${process.pid}-${Date.now()}`);
  private batches = 0;

  async prepare(): Promise<void> {
    await bundle(this.folder, { trial: "test/security/trial.ts" });
  }

  /** All results, in any order. `processes` at a time. */
  async run(trials: readonly Trial[], processes = 2, onEnd: (ended: Ended) => void = () => {}): Promise<Ended[]> {
    const left: Numbered[] = trials.map((trial, id) => ({ trial, id }));
    const ended: Ended[] = [];
    const worker = async (): Promise<void> => {
      for (let batch = left.splice(0, BATCH); batch.length > 0; batch = left.splice(0, BATCH)) {
        const results = await this.batch(batch);
        for (const result of results) onEnd(result);
        ended.push(...results);
        left.unshift(...batch.slice(results.length)); // after one that killed its process
      }
    };
    await Promise.all(Array.from({ length: processes }, worker));
    return ended;
  }

  /** Results up to the first trial that ended its process. */
  private batch(batch: readonly Numbered[]): Promise<Ended[]> {
    const file = join(this.folder, `batch-${this.batches++}.json`);
    mkdirSync(this.folder, { recursive: true });
    writeFileSync(file, JSON.stringify(batch));
    const child = spawn(process.execPath, [join(this.folder, "trial.js"), file], { stdio: ["ignore", "pipe", "pipe"] });
    return new Promise((resolve) => {
      const results: Ended[] = [];
      let [out, err, isHanging] = ["", "", false];
      const hang = (): void => {
        isHanging = true;
        child.kill("SIGKILL");
      };
      let timer = setTimeout(hang, SILENCE_MS);
      child.stdout.setEncoding("utf8").on("data", (text: string) => {
        clearTimeout(timer);
        timer = setTimeout(hang, SILENCE_MS);
        const lines = (out + text).split("\n");
        out = lines.pop()!; // split gives one at least
        for (const line of lines) {
          const { id, result } = JSON.parse(line) as { id: number; result?: Result };
          if (result) results.push({ ...result, trial: batch.find((b) => b.id === id)!.trial });
        }
      });
      child.stderr.setEncoding("utf8").on("data", (text: string) => {
        err += text;
      });
      child.on("close", (status, signal) => {
        clearTimeout(timer);
        const died = batch[results.length];
        const how = isHanging ? `said nothing for ${SILENCE_MS} ms` : `ended with ${signal ?? status}`;
        if (died)
          results.push({
            trial: died.trial,
            outcome: isHanging ? "hung" : "died",
            message: `the process ${how}\n${err}`,
            ms: 0,
            bytes: 0,
            peakMiB: 0,
          });
        resolve(results);
      });
    });
  }

  [Symbol.dispose](): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}
