// Events of a run → lines of a JSONL or CSV file, written as they happen; a resumed run appends.
import { appendFileSync, existsSync, mkdirSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { HeddleError } from "../ir/error.ts";
import type { RunEvent } from "./run.ts";

export interface RunLog {
  write(event: RunEvent): void;
}

/** Steps are too many; a point of the loss curve stands for some of them. */
const isLogged = (event: RunEvent): boolean => event.kind !== "step" && event.kind !== "save";

/** `isContinued`: adds to a file that is there. Throws HeddleError ("io"). */
function openLines(path: string, isContinued: boolean, header: string): (line: string) => void {
  try {
    mkdirSync(dirname(path), { recursive: true });
    if (!isContinued || !existsSync(path)) writeFileSync(path, header);
  } catch (cause) {
    throw new HeddleError("io", `${path}: cannot be written: ${(cause as Error).message}`, { cause });
  }
  return (line) => appendFileSync(path, `${line}\n`);
}

/** One JSON object a line: what begins, the memory that was planned, means of losses, results of epochs. */
export function openJsonl(path: string, isContinued: boolean): RunLog {
  const add = openLines(path, isContinued, "");
  return {
    write(event) {
      if (isLogged(event)) add(JSON.stringify(event));
    },
  };
}

const COLUMNS = ["epoch", "step", "loss", "learning_rate", "seconds", "metric", "value"] as const;

/** A row for each mean of losses, and one for each metric of an epoch. */
export function openCsv(path: string, isContinued: boolean): RunLog {
  const add = openLines(path, isContinued, `${COLUMNS.join()}\n`);
  return {
    write(event) {
      if (event.kind === "loss") add([event.epoch, event.step, event.loss, event.learningRate, event.seconds.toFixed(3), "", ""].join());
      if (event.kind !== "epoch") return;
      for (const [name, value] of Object.entries(event.metrics))
        add([event.epoch, event.step, event.loss, "", event.seconds.toFixed(3), name, value].join());
    },
  };
}
