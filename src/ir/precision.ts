// What products and convolutions multiply where a network has float32.

/** Types of 16-bit copies of their operands. Sums, and all arithmetic in between, stay float32. */
export type NarrowPrecision = "bf16" | "f16";

/**
 * f32: as the network says. tf32: operands rounded to ten bits of fraction by an NVIDIA GPU's matrix units, where that is faster.
 * f8: large products with known weights multiply float8 numbers (four bits of exponent, three of fraction) with a scale for each operand, all else is bf16.
 */
export type Precision = "f32" | "tf32" | "f8" | NarrowPrecision;

export const PRECISIONS: readonly Precision[] = ["f32", "tf32", "bf16", "f16", "f8"];

/** What training may ask for: f8 is for weights that are known. */
export const TRAINING_PRECISIONS: readonly Precision[] = PRECISIONS.filter((p) => p !== "f8");

/** The type of the copies; undefined: there are none. */
export const narrowPrecision = (precision: Precision | undefined): NarrowPrecision | undefined =>
  precision === "f8" ? "bf16" : precision === "bf16" || precision === "f16" ? precision : undefined;
