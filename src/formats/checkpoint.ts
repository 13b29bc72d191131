// The state of a training run ↔ one safetensors file: weights under their own names, the optimizer's tensors under "optimizer.", the rest as JSON.
import { HeddleError } from "../ir/error.ts";
import { loadSafetensors, saveSafetensors, type Tensors } from "./safetensors.ts";

export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json };

export interface Checkpoint {
  /** By PyTorch's state-dict keys, so that other programs find the weights in the file as they know them. */
  readonly model: Tensors;
  readonly optimizer?: Tensors;
  /** Averaged weights, by the same keys as `model`. */
  readonly ema?: Tensors;
  /** Of weights that are pruned while they learn. */
  readonly masks?: Tensors;
  /** What losses are multiplied by. */
  readonly scale?: Tensors;
  /** DataLoader.state(). */
  readonly loader?: Json;
  /** Steps that were taken. */
  readonly step: number;
  /** Anything else a run wants back: its settings, its best result. */
  readonly notes?: Json;
}

const SECTIONS = ["optimizer", "ema", "masks", "scale"] as const;
/** What our files say of themselves. */
const MARK = "heddle.checkpoint";
const VERSION = 1;

const sectionOf = (name: string): (typeof SECTIONS)[number] | undefined => SECTIONS.find((section) => name.startsWith(`${section}.`));

/** Writes a checkpoint, or leaves the one that is there: a process that is killed meanwhile leaves no broken file. Throws HeddleError ("io", "bad-argument"). */
export async function saveCheckpoint(path: string, checkpoint: Checkpoint): Promise<void> {
  const { model, loader = null, step, notes = null } = checkpoint;
  const clash = Object.keys(model).find(sectionOf);
  if (clash !== undefined)
    throw new HeddleError("bad-argument", `checkpoint: the weight ${clash} is named as if it were the ${sectionOf(clash)}'s; rename it`);
  const others = SECTIONS.flatMap((section) =>
    Object.entries(checkpoint[section] ?? {}).map(([name, tensor]) => [`${section}.${name}`, tensor] as const),
  );
  const state = JSON.stringify({ version: VERSION, step, loader, notes, sections: SECTIONS.filter((section) => checkpoint[section]) });
  await saveSafetensors(path, { ...model, ...Object.fromEntries(others) }, { format: "pt", [MARK]: state });
}

/** Reads what saveCheckpoint wrote. Throws HeddleError ("missing", "bad-input"). */
export async function loadCheckpoint(path: string): Promise<Checkpoint> {
  const { tensors, metadata } = await loadSafetensors(path);
  if (metadata[MARK] === undefined) throw new HeddleError("bad-input", `${path}: holds tensors, but is not a checkpoint of a training run`);
  const { step, loader, notes, sections } = parseState(metadata[MARK], path);
  const select = (wanted: string | undefined): Tensors =>
    Object.fromEntries(
      Object.entries(tensors)
        .filter(([name]) => sectionOf(name) === wanted)
        .map(([name, tensor]) => [wanted ? name.slice(wanted.length + 1) : name, tensor]),
    );
  return { model: select(undefined), ...Object.fromEntries(sections.map((section) => [section, select(section)])), loader, step, notes };
}

interface State {
  readonly step: number;
  readonly loader: Json;
  readonly notes: Json;
  readonly sections: readonly string[];
}

function parseState(text: string, path: string): State {
  let state: (State & { readonly version: number }) | undefined;
  try {
    state = JSON.parse(text);
  } catch {
    // refused below
  }
  const isValid = state?.version === VERSION && Number.isSafeInteger(state.step) && state.step >= 0 && Array.isArray(state.sections);
  if (!state || !isValid || !state.sections.every((name) => (SECTIONS as readonly string[]).includes(name)))
    throw new HeddleError("bad-input", `${path}: its checkpoint state is not of version ${VERSION}`);
  return state;
}
