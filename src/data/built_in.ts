// Recipes → the objects that they describe, on whatever thread.
import { HeddleError } from "../ir/error.ts";
import { pad, stack } from "./collate.ts";
import { BUILT_IN, type Dataset, type Recipe } from "./dataset.ts";
import { ImageFolderDataset } from "./image_folder.ts";
import { loadableUrl } from "./module_url.ts";
import { NpyDataset } from "./npy_dataset.ts";
import { TensorDataset } from "./tensor_dataset.ts";
import { TextDataset } from "./text_dataset.ts";
import { ThrottledDataset } from "./throttled.ts";
import { normalize, randomCrop, randomErase, randomFlip, TransformedDataset } from "./transforms.ts";

const EXPORTS: Readonly<Record<string, unknown>> = {
  ImageFolderDataset,
  TensorDataset,
  TextDataset,
  ThrottledDataset,
  TransformedDataset,
  openNpyDataset: NpyDataset.open,
  normalize,
  pad,
  randomCrop,
  randomErase,
  randomFlip,
  stack,
};

/** Plain objects only: tensors and options stay as they are. */
const isRecipe = (value: unknown): value is Recipe =>
  typeof value === "object" && value !== null && "module" in value && "export" in value && "args" in value && Array.isArray(value.args);

const resolveArg = async (arg: unknown): Promise<unknown> =>
  isRecipe(arg) ? make(arg) : Array.isArray(arg) && arg.some(isRecipe) ? Promise.all(arg.map(resolveArg)) : arg;

type Class = new (...args: readonly unknown[]) => object;
type Factory = (...args: readonly unknown[]) => unknown;

const isClass = (value: unknown): value is Class => typeof value === "function" && /^class\b/.test(Function.prototype.toString.call(value));

async function moduleOf(module: string): Promise<Readonly<Record<string, unknown>>> {
  if (module === BUILT_IN) return EXPORTS;
  const url = await loadableUrl(module);
  try {
    return (await import(/* @vite-ignore */ url)) as Record<string, unknown>; // a module's exports
  } catch (cause) {
    throw new HeddleError("missing", `data: the module ${module} does not load: ${(cause as Error).message}`, { cause });
  }
}

/** The object of a recipe, with its recipe, so that other threads can make it too. */
export async function make(recipe: Recipe): Promise<object> {
  const { [recipe.export]: value } = await moduleOf(recipe.module);
  if (typeof value !== "function")
    throw new HeddleError("missing", `data: the module ${recipe.module} has no class or function ${recipe.export}`);
  const args = await Promise.all(recipe.args.map(resolveArg));
  const made = isClass(value) ? new value(...args) : await (value as Factory)(...args);
  if (typeof made !== "object" || made === null) throw new HeddleError("bad-argument", `data: ${recipe.export} made no object`);
  if (!("recipe" in made)) Object.defineProperty(made, "recipe", { value: () => recipe });
  return made;
}

/** A dataset, transform or collation of your own that worker threads can make: name the module, what it exports, and plain arguments. */
export const fromRecipe = <T extends object = Dataset>(recipe: Recipe): Promise<T> => make(recipe) as Promise<T>; // the caller knows what the module exports
