// Values of windows without those of empty lanes: masks say which lanes the next ones go to, on AVX-512.
import { type Int, type KernelBuilder, plus, times, type Vec } from "../ir/kernel.ts";
import { INT_RANGE } from "../ir/kernel_ops.ts";
import type { RecordLayout } from "./sparse_window.ts";

/** Writes which values a matrix's packed ones are, and into records where they go. */
export class Packer {
  private next = 0;

  constructor(
    private readonly lanes: number,
    private readonly bundle: number,
    private readonly layout: RecordLayout,
    private readonly place: Int32Array,
  ) {}

  /** Of a slice's lanes, step after step; returns where each is among the values. */
  pack(found: Int32Array, records: DataView): Int32Array {
    const { lanes, layout, place, bundle } = this;
    const slots = new Int32Array(found.length).fill(-1);
    for (let step = 0, start = 0; step * lanes < found.length; step++) {
      const record = Math.floor(step / bundle) * layout.bytes;
      const s = step % bundle;
      if (s === 0) {
        start = this.next;
        records.setInt32(record + layout.values, start, true);
      } else records.setUint8(record + layout.offsets + s - 1, this.next - start);
      let bits = 0;
      for (let lane = 0; lane < lanes; lane++) {
        const at = step * lanes + lane;
        if (found[at] < 0) continue;
        bits |= 1 << lane;
        slots[at] = this.next;
        place[this.next++] = found[at];
      }
      records.setUint16(record + layout.bits + 2 * s, bits, true);
    }
    return slots;
  }
}

/** Buffers that a bundle is read from. */
export interface PackedBuffers {
  readonly values: number;
  /** Where the last bundle may begin. */
  readonly last: number;
  readonly records: number;
}

/** The values of a bundle's steps; `found` hears where they begin. */
export function unpack(
  b: KernelBuilder,
  from: PackedBuffers,
  layout: RecordLayout,
  i: Int,
  found: (start: Int) => void,
): (s: number) => Vec {
  const { values, last, records } = from;
  const record = times(i, layout.bytes);
  const start = b.loadInt(records, plus(record, layout.values), "i32", 0, last);
  found(start);
  return (s) => {
    const offset = s === 0 ? 0 : b.loadInt(records, plus(record, layout.offsets + s - 1), "u8", ...INT_RANGE.u8);
    return b.expand(values, plus(times(start, 4), times(offset, 4)), records, plus(record, layout.bits + 2 * s));
  };
}
