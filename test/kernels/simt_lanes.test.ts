// Neighbouring elements in a thread, run in JavaScript: loads and stores by vectors where memory allows it, the same values everywhere.
import { expect, test } from "vitest";
import { call, cast, constant, reduce } from "../../src/ir/expr.ts";
import { loadReader } from "../../src/ir/expr_interpreter.ts";
import type { Reader, TensorType } from "../../src/ir/graph.ts";
import { addIndex, constIndex, mulIndex, newVar, unlinearIndex, varIndex } from "../../src/ir/index_expr.ts";
import type { SimtKernel, SimtStmt } from "../../src/ir/simt.ts";
import { elementCount } from "../../src/ir/tensor.ts";
import { stridedOperand } from "../../src/kernels/simt/operand.ts";
import { PLAIN_SCHEDULES, plainProduct } from "../../src/kernels/simt/plain_product.ts";
import { noTail } from "../../src/kernels/simt/tail.ts";
import { lowerSimtReaders } from "../../src/lower/simt_group.ts";
import { randomNumbers } from "../run/devices.ts";
import { H200, runKernel } from "./simt_machine.ts";

const statements = (body: readonly SimtStmt[]): readonly SimtStmt[] =>
  body.flatMap((s) => [s, ...(s.k === "if" ? statements([...s.then, ...s.otherwise]) : s.k === "for" ? statements(s.body) : [])]);
const countOf = (kernel: SimtKernel, k: SimtStmt["k"]): number => statements(kernel.body).filter((s) => s.k === k).length;

const SHAPE = [2, 80, 102, 12];
const x: TensorType = { dtype: "f32", shape: SHAPE };
const scale: TensorType = { dtype: "f32", shape: [12] };
const turned: TensorType = { dtype: "f32", shape: [2, 12, 80, 102] };

test("sums of what lies side by side, what is broadcast and what lies across", () => {
  const [a, s, t] = [x, scale, turned].map((type, i) => loadReader(type, i));
  const reader: Reader = {
    type: x,
    at: (index) => {
      const [n, h, w, c] = index;
      return call("add", call("mul", a.at(index), s.at([c])), call("add", t.at([n, c, h, w]), a.at([n, h, constIndex(3), c])));
    },
  };
  const kernel = lowerSimtReaders("lanes", [reader], [x, scale, turned], H200);
  expect(countOf(kernel, "storeVector")).toBe(1);
  expect(countOf(kernel, "loadVector")).toBe(3); // all but what lies across
  const count = elementCount(SHAPE);
  const [xs, ss, ts] = [count, 12, count].map((n, i) => Float64Array.from(randomNumbers(i + 1, n)));
  const out = new Float64Array(count).fill(Number.NaN);
  runKernel(kernel, [xs, ss, ts, out], "early");
  let worst = 0;
  for (let at = 0; at < count; at++) {
    const [c, w, h, n] = [at % 12, Math.floor(at / 12) % 102, Math.floor(at / 1224) % 80, Math.floor(at / 97920)];
    const want = xs[at] * ss[c] + ts[((n * 12 + c) * 80 + h) * 102 + w] + xs[((n * 80 + h) * 102 + 3) * 12 + c];
    worst = Math.max(worst, Number.isNaN(out[at]) ? Number.POSITIVE_INFINITY : Math.abs(out[at] - want));
  }
  expect(worst).toBeLessThan(1e-6);
});

test("sums of columns read neighbouring columns at once, and every sum has one order", () => {
  for (const [rows, columns, dtype] of [
    [70, 132, "bf16"],
    [96, 260, "f32"],
  ] as const) {
    const type: TensorType = { dtype, shape: [rows, columns] };
    const sums: Reader = {
      type: { dtype: "f32", shape: [columns] },
      at([column]) {
        const row = newVar(rows);
        return reduce("add", [row], cast("f32", loadReader(type, 0).at([varIndex(row), column])));
      },
    };
    const kernel = lowerSimtReaders("columns", [sums], [type], { ...H200, units: 1 });
    expect(kernel.workgroup).toEqual([32, 8, 1]);
    // They would leave most of 132 multiprocessors idle.
    expect(lowerSimtReaders("columns", [sums], [type], H200).workgroup).not.toEqual([32, 8, 1]);
    const numbers = Float64Array.from(randomNumbers(7, rows * columns).map((v) => Math.round(v * 64) / 64)); // as both types hold them
    const out = new Float64Array(columns).fill(Number.NaN);
    runKernel(kernel, [numbers, out], "early");
    for (let c = 0; c < columns; c++) {
      let want = 0;
      for (let r = 0; r < rows; r++) want += numbers[r * columns + c];
      expect(out[c]).toBe(want); // sums of so few bits are exact
    }
    expect(statements(kernel.body).filter((s) => s.k === "loadVector" && s.from.k === "buffer")).not.toHaveLength(0);
  }
});

test("elements whose number is no multiple of four, and few of them, are a thread's each", () => {
  const reader = (type: TensorType): Reader => ({ type, at: (index) => call("add", loadReader(type, 0).at(index), constant("f32", 1)) });
  for (const shape of [
    [401, 401],
    [40, 40],
  ]) {
    const type = { dtype: "f32", shape } as const;
    expect(countOf(lowerSimtReaders("single", [reader(type)], [type], H200), "storeVector")).toBe(0);
  }
});

test("columns of a product that are blocks of the output are stored by vectors", () => {
  const [m, n, k, channels] = [32, 32, 8, 8];
  const output = { dtype: "f32", shape: [8, 16, channels] } as const; // positions (4, 8) to blocks of 2 × 2
  const kernel = plainProduct(
    "blocks",
    {
      left: stridedOperand("f32", m * k, [], { extent: m, stride: k }, { extent: k, stride: 1 }),
      right: stridedOperand("f32", n * k, [], { extent: n, stride: k }, { extent: k, stride: 1 }),
      batch: 1,
      splits: 1,
      tail: noTail(output),
      place: (_, row, column) => {
        const [[y, x], [v, u, c]] = [unlinearIndex(row, [4, 8]), unlinearIndex(column, [2, 2, channels])];
        return [addIndex(mulIndex(y, 2), v), addIndex(mulIndex(x, 2), u), c];
      },
    },
    PLAIN_SCHEDULES.find((s) => s.bm === 32 && s.slices === 1)!, // one of the table
    H200,
  );
  expect(statements(kernel.body).filter((s) => s.k === "store")).toHaveLength(0);
  const [a, b] = [m * k, n * k].map((count, i) => Float64Array.from(randomNumbers(i + 1, count)));
  const out = new Float64Array(m * n).fill(Number.NaN);
  runKernel(kernel, [a, b, out], "early");
  for (let row = 0; row < m; row++)
    for (let column = 0; column < n; column++) {
      let want = 0;
      for (let p = 0; p < k; p++) want += a[row * k + p] * b[column * k + p];
      const [y, x, v, u, c] = [row >> 3, row & 7, column >> 4, (column >> 3) & 1, column & 7];
      expect(Math.abs(out[((2 * y + v) * 16 + 2 * x + u) * channels + c] - want)).toBeLessThan(1e-6);
    }
});
