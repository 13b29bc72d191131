// Work shared out to threads: each place belongs to one of them, and what comes with the last place is done once, also where some have no part.
import { expect, test } from "vitest";
import { avx2Target } from "../../src/codegen/x86/target.ts";
import { KernelBuilder, plus, times } from "../../src/ir/kernel.ts";
import { shareOut } from "../../src/kernels/work.ts";
import { interpret } from "../codegen/simd_reference.ts";

test.each([
  [16, [1, 37, 11]],
  [16, [1, 1, 3]],
  [7, [5, 2, 1]],
  [12, [3, 14, 9]],
  [2, [1, 1, 1]],
])("%i threads, %j", (threads, extents) => {
  const [batches, rows, columns] = extents;
  const b = new KernelBuilder("count", avx2Target(32 << 10, 1 << 20), threads);
  const count = extents.reduce((a, e) => a * e, 1);
  const out = b.buffer("out", 4 * (count + 1), "readwrite");
  const add = (at: Parameters<typeof b.load>[1]): void => b.store(b.op("add", b.load(out, at, 1), b.f32(1)), out, at, 1);
  shareOut(b, [batches, rows, columns], (parts) => {
    b.loop(parts[0].from, parts[0].to, 1, (batch) =>
      b.loop(parts[1].from, parts[1].to, 1, (row) =>
        b.loop(parts[2].from, parts[2].to, 1, (column) =>
          add(plus(times(batch, 4 * rows * columns), times(row, 4 * columns), times(column, 4))),
        ),
      ),
    );
    b.when(batches - 1, parts[0].to, () => b.when(rows - 1, parts[1].to, () => b.when(columns - 1, parts[2].to, () => add(4 * count))));
  });
  const counts = new Float32Array(count + 1);
  interpret(b.build(), [new Uint8Array(counts.buffer)]);
  expect([...counts]).toEqual(Array.from(counts, () => 1));
});
