// Symbolic input shapes of a model and the sizes that the user gives → concrete shapes.
import { HeddleError } from "../../ir/error.ts";
import type { OnnxModel, OnnxValueInfo } from "./read.ts";
import { plain } from "./structure.ts";
import { checkSizes } from "./tensor.ts";

/** Shapes by input name. Sizes that share a name with a given one follow it. Throws "bad-argument" on what is missing or disagrees. */
export function resolveShapes(
  model: Pick<OnnxModel, "inputs">,
  given: Readonly<Record<string, readonly number[]>>,
): ReadonlyMap<string, readonly number[]> {
  const names = model.inputs.map((i) => i.name);
  for (const name of Object.keys(given)) {
    if (!names.includes(name))
      throw new HeddleError(
        "bad-argument",
        `shape of ${plain(name)}: the model has no such input, it has ${names.map((n) => plain(n)).join(", ") || "none"}`,
      );
  }
  const symbols = new Map<string, { size: number; input: string }>();
  for (const input of model.inputs) if (Object.hasOwn(given, input.name)) bind(input, given[input.name], symbols);
  return new Map(
    model.inputs.map((input) => [input.name, Object.hasOwn(given, input.name) ? given[input.name] : inferred(input, symbols)]),
  );
}

/** A shape with symbols as people write it: `(1, 3, H, ?)`. */
export const formatShape = (shape: OnnxValueInfo["shape"]): string =>
  shape ? `(${shape.map((d) => d ?? "?").join(", ")})` : "of unknown rank";

function bind(input: OnnxValueInfo, shape: readonly number[], symbols: Map<string, { size: number; input: string }>): void {
  const fail = (why: string) =>
    new HeddleError("bad-argument", `input ${plain(input.name)}: shape (${shape}) does not fit ${formatShape(input.shape)}: ${why}`);
  const bad = shape.find((d) => !Number.isInteger(d) || d < 0);
  if (bad !== undefined) throw fail(`${bad} is not a size`);
  checkSizes(shape, `input ${plain(input.name)}`);
  if (!input.shape) return;
  if (shape.length !== input.shape.length) throw fail(`${shape.length} axes, the model has ${input.shape.length}`);
  for (const [axis, wanted] of input.shape.entries()) {
    const size = shape[axis];
    if (typeof wanted === "number" && wanted !== size) throw fail(`axis ${axis} is ${size}, the model has ${wanted}`);
    if (typeof wanted !== "string") continue;
    const known = symbols.get(wanted);
    if (known && known.size !== size) throw fail(`${wanted} is ${size} here and ${known.size} in input ${plain(known.input)}`);
    symbols.set(wanted, { size, input: input.name });
  }
}

function inferred(input: OnnxValueInfo, symbols: ReadonlyMap<string, { size: number }>): readonly number[] {
  const sizes = input.shape?.map((d) => (typeof d === "string" ? symbols.get(d)?.size : d)) ?? [undefined];
  const shape = sizes.filter((d) => typeof d === "number");
  if (shape.length === sizes.length) {
    checkSizes(shape, `input ${plain(input.name)}`);
    return shape;
  }
  const name = plain(input.name);
  const example = input.shape ? sizes.map((d, axis) => d ?? (axis === 0 ? 1 : 320)) : [1, 3, 320, 320];
  throw new HeddleError(
    "bad-argument",
    `input ${name}: its shape ${formatShape(input.shape)} is not fixed; give it, for example --shape ${name}=${example.join("x")}`,
  );
}
