// How much memory this process can have: a program that needs more would end it.
import { totalmem } from "node:os";

export const availableBytes = (): number => Math.min(totalmem(), process.constrainedMemory() || Number.POSITIVE_INFINITY);
