// What a parameter holds, and where: on the host, or in the memory of the program that wrote it last; and how it gets to the next program.
import type { TensorType } from "../ir/graph.ts";
import type { TensorData } from "../ir/tensor.ts";
import { enqueue } from "./device.ts";
import { awaited, compute, computeSoon, fetched, forget } from "./execute.ts";
import type { Runner } from "./runner.ts";
import { currentTrace, freshInput, type Handle, handleOf, leaf, type Storage, storageOf } from "./trace.ts";

/** Mutable: the contents of a Parameter. */
export interface Cell {
  readonly type: TensorType;
  /** Null while only a program holds the numbers. */
  handle: Handle | null;
  /** The program that holds the numbers in its state; null: none does. */
  home: Slot | null;
  /** Grows with each assignment: all versions are distinct. */
  version: number;
}

/** A state of a program, which holds some version of a cell. Versions are as of the end of the queue. */
export interface Slot {
  readonly name: string;
  readonly runner: Promise<Runner>;
  version: number;
}

let versions = 0;

export const cellOf = (handle: Handle): Cell => {
  computeSoon(handle);
  return { type: handle.value.type, handle, home: null, version: ++versions };
};

/** What the cell holds: inside of a compiled function a state of the program that is being traced. */
export function readCell(cell: Cell): Handle {
  const trace = currentTrace();
  if (!trace) return settledHandle(cell);
  const known = trace.states.get(cell);
  if (known) return known.handle;
  const input = freshInput(cell.type);
  const handle = handleOf(input);
  trace.states.set(cell, { input, handle, isWritten: false });
  return handle;
}

export function writeCell(cell: Cell, handle: Handle): void {
  const trace = currentTrace();
  if (trace) {
    readCell(cell); // makes its state
    const state = trace.states.get(cell)!; // readCell has made it
    state.handle = handle;
    state.isWritten = true;
    return;
  }
  if (cell.handle) forget(cell.handle);
  computeSoon(handle);
  Object.assign(cell, { handle, home: null, version: ++versions });
}

/** A handle of what the cell holds now, whatever is assigned later. */
function settledHandle(cell: Cell): Handle {
  if (cell.handle) return cell.handle;
  const { name, runner } = cell.home!; // without a handle there is a home
  const copy = enqueue(async () => [(await runner).getState(name)]);
  cell.handle = leaf(awaited(cell.type, copy, 0));
  return cell.handle;
}

/** Numbers that a slot must be given before its program runs next; null: it has them. */
export function neededBy(slot: Slot, cell: Cell): Storage | null {
  if (slot.version === cell.version) return null;
  const handle = settledHandle(cell);
  compute([handle]);
  slot.version = cell.version;
  return storageOf(handle.value)!; // compute has made it
}

/** The program that is queued next writes the cell. Returns what takes that back, for when it could not be run at all. */
export function assignFrom(slot: Slot, cell: Cell): () => void {
  const before = { ...cell };
  if (cell.handle) forget(cell.handle);
  const version = ++versions;
  Object.assign(cell, { handle: null, home: slot, version });
  slot.version = version;
  return () => {
    if (cell.version === version) Object.assign(cell, before);
    slot.version = -1;
  };
}

/** Brings the numbers to the host, since the program goes. To be called in the queue. */
export async function takeHome(cell: Cell, slot: Slot): Promise<void> {
  if (cell.home !== slot) return;
  cell.home = null;
  if (cell.handle) return;
  const data: TensorData = (await slot.runner).getState(slot.name);
  cell.handle ??= leaf({ type: cell.type, data, pending: null });
}

export const contents = (storage: Storage): TensorData | Promise<TensorData> => fetched(storage);
