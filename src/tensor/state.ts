// What a parameter holds, and where: as a tensor, in a place on the device that compiled functions work on, or both.
import type { TensorType, Value } from "../ir/graph.ts";
import { enqueue, onDeviceChange } from "./device.ts";
import { awaited, compute, computeSoon, forget } from "./execute.ts";
import { Place } from "./runner.ts";
import { currentTrace, freshInput, type Handle, handleOf, leaf, type Storage, storageOf } from "./trace.ts";

/** The contents of a Parameter. What it says is so at the end of the queue. */
export interface Cell {
  readonly type: TensorType;
  /** Null while only the place holds the numbers. */
  handle: Handle | null;
  /** On the device of now; null until a compiled function uses the parameter. */
  place: Place | null;
  /** Whether the place holds the numbers. */
  isPlaced: boolean;
  /** Grows with each assignment. */
  version: number;
}

/** A parameter inside of the function that is being traced. */
export interface TracedCell {
  readonly cell: Cell;
  readonly input: Value;
  handle: Handle;
  isWritten: boolean;
}

/** Cells with places, as long as there are such. */
const placed = new Set<WeakRef<Cell>>();
const collected = new FinalizationRegistry<{ ref: WeakRef<Cell>; place: Place }>(({ ref, place }) => {
  placed.delete(ref);
  enqueue(() => place.free()).catch(() => {});
});

export function cellOf(handle: Handle): Cell {
  computeSoon(handle);
  return { type: handle.value.type, handle, place: null, isPlaced: false, version: 0 };
}

/** What the cell holds: inside of a compiled function an input of the program that is being traced. */
export function readCell(cell: Cell): Handle {
  return currentTrace() ? tracedCell(cell).handle : handleNow(cell);
}

export function writeCell(cell: Cell, handle: Handle): void {
  if (currentTrace()) {
    Object.assign(tracedCell(cell), { handle, isWritten: true });
    return;
  }
  if (cell.handle) forget(cell.handle);
  computeSoon(handle);
  Object.assign(cell, { handle, isPlaced: false, version: cell.version + 1 });
}

function tracedCell(cell: Cell): TracedCell {
  const { states } = currentTrace()!; // asked for inside of traces only
  const known = states.get(cell);
  if (known) return known;
  const input = freshInput(cell.type);
  const made: TracedCell = { cell, input, handle: handleOf(input), isWritten: false };
  states.set(cell, made);
  return made;
}

/** A handle of what the cell holds now, whatever is assigned later. */
function handleNow(cell: Cell): Handle {
  if (cell.handle) return cell.handle;
  const place = cell.place!; // it holds the numbers
  cell.handle = leaf(awaited(cell.type, enqueue(async () => [await place.read()]), 0)); // biome-ignore format: short
  return cell.handle;
}

/** The place of a cell on the device of now. */
export function placeOf(cell: Cell): Place {
  if (cell.place) return cell.place;
  cell.place = new Place(cell.type);
  const ref = new WeakRef(cell);
  placed.add(ref);
  collected.register(cell, { ref, place: cell.place }, cell);
  return cell.place;
}

/** The numbers that must be written into the place before what is queued next; null: it has them. */
export function place(cell: Cell): Storage | null {
  if (cell.isPlaced) return null;
  const handle = handleNow(cell);
  compute([handle]);
  cell.isPlaced = true;
  return storageOf(handle.value)!; // compute has made it
}

/** What is queued next writes the place. */
export function overwritten(cell: Cell): void {
  if (cell.handle) forget(cell.handle);
  Object.assign(cell, { handle: null, isPlaced: true, version: cell.version + 1 });
}

/** What takes back changes that follow, unless others follow them: for when what was queued could not be run at all. */
export function snapshot(cell: Cell, changes: 0 | 1): () => void {
  const { handle, isPlaced, version } = cell;
  return () => {
    if (cell.version === version + changes) Object.assign(cell, { handle, isPlaced });
  };
}

onDeviceChange(() => {
  for (const ref of placed) {
    const cell = ref.deref();
    if (!cell?.place) continue;
    const { place: old } = cell;
    collected.unregister(cell);
    handleNow(cell);
    Object.assign(cell, { place: null, isPlaced: false });
    enqueue(() => old.free()).catch(() => {});
  }
  placed.clear();
});
