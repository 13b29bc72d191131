// What learns from data imports: datasets, transforms, and the loader.
export { fromRecipe } from "./built_in.ts";
export { type PadOptions, pad, stack } from "./collate.ts";
export type { Allocate, Batch, Collate, Dataset, Example, Recipe, Transform } from "./dataset.ts";
export { IdxDataset, type IdxFiles } from "./idx_dataset.ts";
export { ImageFolderDataset, type ImageFolderOptions } from "./image_folder.ts";
export { DataLoader, type DataLoaderOptions, type LoaderState } from "./loader.ts";
export { NpyDataset } from "./npy_dataset.ts";
export { Random } from "./random.ts";
export type { LoaderStats } from "./stats.ts";
export { TensorDataset } from "./tensor_dataset.ts";
export { TextDataset, type TextOptions } from "./text_dataset.ts";
export { type DiskSpeed, ThrottledDataset } from "./throttled.ts";
export { normalize, randomCrop, randomErase, randomFlip, TransformedDataset } from "./transforms.ts";
