// An ONNX Constant node, in any of its forms → its tensor.
import { HeddleError } from "../../ir/error.ts";
import type { Attrs } from "../../ir/graph.ts";
import { fromNumbers, type TensorData } from "../../ir/tensor.ts";

/** Attributes were decoded before; one of them holds the value. */
export function constantTensor(attrs: Attrs): TensorData {
  const forms = Object.entries(attrs).filter(([, value]) => value !== undefined && value !== null);
  if (forms.length !== 1) throw new HeddleError("bad-model", `Constant: ${forms.length} attributes, wanted exactly one value`);
  const [name, value] = forms[0];
  switch (name) {
    case "value":
      if (value !== null && typeof value === "object" && "data" in value) return value as TensorData; // only tensors have data
      break;
    case "value_float":
    case "value_int":
      if (typeof value === "number") return fromNumbers(name === "value_int" ? "i64" : "f32", [], [value]);
      break;
    case "value_floats":
    case "value_ints":
      if (isNumbers(value)) return fromNumbers(name === "value_ints" ? "i64" : "f32", [value.length], value);
      break;
    default:
      throw new HeddleError("unsupported", `Constant: a value in the form ${name} is not supported`);
  }
  throw new HeddleError("bad-model", `Constant: attribute ${name} has the wrong type`);
}

const isNumbers = (value: unknown): value is readonly number[] => Array.isArray(value) && value.every((v) => typeof v === "number");
