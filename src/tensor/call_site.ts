// Finds the user's line that called an operator: the first frame of the stack outside of heddle's own files.

const here = import.meta.url;
/** Where heddle's own code is: the folder src, or that of the bundle. */
const own = here.includes("/src/tensor/") ? here.slice(0, here.lastIndexOf("/src/tensor/") + 5) : here.slice(0, here.lastIndexOf("/") + 1);
const ownPath = own.replace(/^file:\/\//, "");

const isOwn = (frame: string): boolean => frame.includes(own) || frame.includes(ownPath) || frame.includes("node:internal");

/** Wanted with every node, and not only with errors: it takes longer than applying the operator does. */
export const isTracked = /^[1-9]/.test(process.env.HEDDLE_DEBUG ?? "");

/** `model.ts:12`, or nothing where the caller cannot be told. */
export function callSite(): string {
  const holder: { stack?: string } = {};
  const limit = Error.stackTraceLimit;
  Error.stackTraceLimit = 40;
  Error.captureStackTrace(holder, callSite);
  Error.stackTraceLimit = limit;
  const frames = (holder.stack ?? "").split("\n").slice(1);
  const frame = frames.find((f) => !isOwn(f));
  const place = frame && /([^/\\(\s]+):(\d+):\d+\)?$/.exec(frame);
  return place ? `${place[1]}:${place[2]}` : "";
}
