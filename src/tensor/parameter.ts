// Parameter: a name for a tensor that changes: weights, what an optimizer remembers, running statistics.
import type { DType } from "../ir/dtype.ts";
import type { Dims } from "./shapes.ts";
import { type Cell, cellOf, readCell, writeCell } from "./state.ts";
import { Tensor, toValue } from "./tensor.ts";
import { refuse } from "./trace.ts";

export interface ParameterOptions {
  readonly name?: string;
  /** Whether optimizers change it. Default: true for floats. */
  readonly trainable?: boolean;
}

/** Holds a tensor. Inside of jit(), what it holds is state of the program: kept in the device's memory from call to call and updated in place. */
export class Parameter<S extends Dims = Dims, D extends DType = DType> {
  name: string;
  trainable: boolean;
  readonly shape: S;
  readonly dtype: D;
  /** For heddle's own files. */
  readonly cell: Cell;

  constructor(value: Tensor<S, D>, { name = "", trainable }: ParameterOptions = {}) {
    this.name = name;
    this.shape = value.shape;
    this.dtype = value.dtype;
    this.trainable = trainable ?? /^b?f\d/.test(value.dtype);
    toValue(value); // refuses a disposed one
    this.cell = cellOf(value.handle);
  }

  get value(): Tensor<S, D> {
    return new Tensor(readCell(this.cell));
  }
  set value(next: Tensor<Dims, D>) {
    if (next.dtype !== this.dtype || next.shape.join() !== this.shape.join())
      refuse(`parameter ${this.name}: got ${next.dtype}[${next.shape}], it is ${this.dtype}[${this.shape}]`);
    toValue(next); // refuses one of another trace
    writeCell(this.cell, next.handle);
  }
  toString(): string {
    return `Parameter ${this.name} ${this.dtype}[${this.shape}]`;
  }
}
