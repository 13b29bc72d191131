// Memory for one batch that threads share: tensors side by side, used again for later batches.
import { DTYPES, type DType } from "../ir/dtype.ts";
import { elementCount, type TensorData } from "../ir/tensor.ts";

/** Tensors start at cache lines. */
const ALIGN = 64;

export class Arena {
  private buffer = new SharedArrayBuffer(0);
  private used = 0;

  /** Forgets all tensors. After the first batch the memory fits, and stays. */
  reset(): void {
    if (this.used > this.buffer.byteLength) this.buffer = new SharedArrayBuffer(this.used);
    this.used = 0;
  }

  allocate(dtype: DType, shape: readonly number[]): TensorData {
    const { array, bytes } = DTYPES[dtype];
    const count = elementCount(shape);
    const at = this.used;
    this.used += Math.ceil((count * bytes) / ALIGN) * ALIGN;
    if (this.used > this.buffer.byteLength) return { dtype, shape, data: new array(new SharedArrayBuffer(count * bytes)) };
    return { dtype, shape, data: new array(this.buffer, at, count) };
  }
}
