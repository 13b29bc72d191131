// Tensors that have one row for each example → dataset.
import { HeddleError } from "../ir/error.ts";
import { elementCount, type TensorData } from "../ir/tensor.ts";
import { builtIn, type Dataset, type Example, type Recipe, sharedTensor } from "./dataset.ts";

/** Examples are views of the tensors; worker threads share them, they are not copied for each. */
export class TensorDataset<F extends string = string> implements Dataset<F> {
  readonly length: number;
  private tensors: Readonly<Record<F, TensorData>>;
  private readonly fields: readonly F[];

  /** Throws HeddleError ("bad-argument") where tensors differ in their numbers of rows. */
  constructor(tensors: Readonly<Record<F, TensorData>>) {
    this.tensors = tensors;
    this.fields = Object.keys(tensors) as F[]; // exactly those of a record
    const [first] = this.fields;
    if (first === undefined) throw new HeddleError("bad-argument", "TensorDataset: wants one tensor at least");
    this.length = tensors[first].shape[0];
    for (const field of this.fields) {
      const rows = tensors[field].shape[0];
      if (rows === undefined) throw new HeddleError("bad-argument", `TensorDataset: ${field} is a scalar; wanted a first axis of examples`);
      if (rows !== this.length)
        throw new HeddleError("bad-argument", `TensorDataset: ${field} has ${rows} rows, ${first} has ${this.length}`);
    }
  }

  get(index: number): Example<F> {
    const example = {} as Record<F, TensorData>; // filled below
    for (const field of this.fields) {
      const { dtype, shape: whole, data } = this.tensors[field];
      const shape = whole.slice(1);
      const size = elementCount(shape);
      example[field] = { dtype, shape, data: data.subarray(index * size, (index + 1) * size) };
    }
    return example;
  }

  recipe(): Recipe {
    const shared = this.fields.map((field) => [field, sharedTensor(this.tensors[field])]);
    this.tensors = Object.fromEntries(shared) as Record<F, TensorData>; // kept once
    return builtIn("TensorDataset", this.tensors);
  }
}
