// A step of a run → one line: a bar, where it is, the loss, how fast it goes, how long it waits for data, when it ends.
import type { StepEvent } from "./run.ts";

const CELLS = 20;
const EIGHTHS = " ▏▎▍▌▋▊▉";

/** A bar of block characters, filled from the left in eighths. */
export function bar(part: number, cells = CELLS): string {
  const eighths = Math.round(Math.min(1, Math.max(0, part)) * cells * 8);
  const full = "█".repeat(eighths >> 3);
  return (full + (eighths % 8 ? EIGHTHS[eighths % 8] : "")).padEnd(cells, "░");
}

/** `3:07`, `1:02:09`. */
export function clock(seconds: number): string {
  if (!Number.isFinite(seconds)) return "?";
  const whole = Math.round(seconds);
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, `${whole % 60}`.padStart(2, "0")];
  return hours > 0 ? `${hours}:${`${minutes}`.padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
}

export const progressLine = ({ epoch, step, steps, loss, stepsPerSecond, waiting, secondsLeft }: StepEvent, epochs: number): string =>
  `epoch ${epoch}/${epochs} ${bar(step / steps)} ${step}/${steps}  loss ${loss.toFixed(4)}  ${stepsPerSecond.toFixed(1)} steps/s  data ${(100 * waiting).toFixed(1)} %  ${clock(secondsLeft)} left`; // biome-ignore format: one line
