// SparseMatMul and SparseSampled: products with a matrix of which only the nonzeros are stored, by their places in square blocks, and what gradients of these are.
import { HeddleError } from "../ir/error.ts";
import { defineOp, type Node, type Op, type Value } from "../ir/graph.ts";
import { elementCount, fromNumbers, type TensorData, toNumbers } from "../ir/tensor.ts";
import { f32, inputType, tensorOf } from "./define.ts";

/** The matrix W (rows, columns), in blocks as src/sparse/csb.ts has them. */
export interface SparsePatternAttrs {
  readonly rows: number;
  readonly columns: number;
  readonly block: number;
}
interface SparseMatMulAttrs extends SparsePatternAttrs {
  /** 0: x · Wᵀ, 1: x · W. */
  readonly transposed: number;
}

/** Inputs that are the pattern: where the nonzeros of each block start, rows and columns inside of blocks. */
const PATTERN = 2;

function checkPattern(op: string, inputs: readonly (Value | null)[], { rows, columns, block }: SparsePatternAttrs): number {
  const pointers = elementCount(inputType(op, inputs, PATTERN, ["i32"]).shape);
  const [row, column] = [1, 2].map((i) => elementCount(inputType(op, inputs, PATTERN + i, ["u8"]).shape));
  const blocks = Math.ceil(rows / block) * Math.ceil(columns / block);
  if (pointers !== blocks + 1 || row !== column)
    throw new HeddleError("bad-model", `${op}: ${pointers} pointers for ${blocks} blocks, ${row} rows for ${column} columns of nonzeros`);
  return row;
}

/** Depth of the dense operand and length of a row of the result. */
const sidesOf = ({ rows, columns, transposed }: SparseMatMulAttrs): readonly [depth: number, width: number] =>
  transposed ? [rows, columns] : [columns, rows];

/** Sizes and direction of a node of SparseMatMul. */
export const sparseMatMulAttrs = (node: Node): SparseMatMulAttrs => node.attrs as unknown as SparseMatMulAttrs;
export const sparsePatternAttrs = (node: Node): SparsePatternAttrs => node.attrs as unknown as SparsePatternAttrs;

/** Calls `visit` for each nonzero. */
function visitPattern(
  { columns, block }: SparsePatternAttrs,
  inputs: readonly (TensorData | null)[],
  visit: (row: number, column: number, i: number) => void,
): void {
  const [pointers, row, column] = [0, 1, 2].map((i) => toNumbers(inputs[PATTERN + i]!)); // checked by infer
  const across = Math.ceil(columns / block);
  for (let b = 0; b + 1 < pointers.length; b++)
    for (let i = pointers[b]; i < pointers[b + 1]; i++) visit(Math.floor(b / across) * block + row[i], (b % across) * block + column[i], i);
}

/** The pattern's inputs of a node, to give to another. */
const patternOf = (node: { readonly inputs: readonly (Value | null)[] }): readonly Value[] => node.inputs.slice(PATTERN).map((v) => v!); // checked by infer

const pattern = [tensorOf("i32", [0, 2, 3, 3, 4]), tensorOf("u8", [0, 3, 5, 1]), tensorOf("u8", [1, 2, 0, 0])];
const SIZES = { rows: 20, columns: 17, block: 16 };

/** x (…, columns) · Wᵀ → (…, rows), or x (…, rows) · W → (…, columns); values in the order of the pattern. */
export const SparseMatMul: Op = defineOp<SparseMatMulAttrs>({
  name: "SparseMatMul",
  kind: "opaque",
  own: true,
  attrs: { rows: { type: "int" }, columns: { type: "int" }, block: { type: "int" }, transposed: { type: "int", default: 0 } },
  infer(inputs, attrs) {
    const { dtype, shape } = inputType("SparseMatMul", inputs, 0, ["f32", "f64"]);
    const values = inputType("SparseMatMul", inputs, 1, [dtype]);
    const nonzeros = checkPattern("SparseMatMul", inputs, attrs);
    const [depth, width] = sidesOf(attrs);
    if (shape[shape.length - 1] !== depth || values.shape.join() !== `${nonzeros}`)
      throw new HeddleError(
        "bad-model",
        `SparseMatMul: x (${shape}) and values (${values.shape}) for depth ${depth} and ${nonzeros} nonzeros`,
      );
    return [{ dtype, shape: [...shape.slice(0, -1), width] }];
  },
  evaluate(inputs, node) {
    const { dtype, shape } = node.outputs[0].type;
    const [x, values] = [toNumbers(inputs[0]!), toNumbers(inputs[1]!)]; // checked by infer
    const [depth, width] = sidesOf(node.attrs);
    const sums = new Float64Array(elementCount(shape));
    visitPattern(node.attrs, inputs, (row, column, i) => {
      const [to, from] = node.attrs.transposed ? [column, row] : [row, column];
      for (let n = 0; n * width < sums.length; n++) sums[n * width + to] += values[i] * x[n * depth + from];
    });
    return [fromNumbers(dtype, shape, sums)];
  },
  vjp({ build, grad, wants }, node) {
    const { transposed, ...sizes } = node.attrs;
    const [x, values] = node.inputs as readonly Value[]; // checked by infer
    const dy = grad(0)!; // the only output
    const [g, other] = transposed ? [x, dy] : [dy, x];
    return [
      wants(0) ? build.op("SparseMatMul", [dy, values, ...patternOf(node)], { ...sizes, transposed: 1 - transposed }) : null,
      wants(1) ? build.op("SparseSampled", [g, other, ...patternOf(node)], sizes) : null,
      ...patternOf(node).map(() => null),
    ];
  },
  flops: ({ inputs: [x, values], attrs }) => (2 * elementCount(x!.type.shape) * elementCount(values!.type.shape)) / sidesOf(attrs)[0],
  samples: [
    { inputs: [f32(3, 17), f32(4), ...pattern], attrs: { ...SIZES, transposed: 0 } },
    { inputs: [f32(2, 2, 20), f32(4), ...pattern], attrs: { ...SIZES, transposed: 1 } },
  ],
});

/** gᵀ · x at the nonzeros of W: g (…, rows), x (…, columns) → values. */
export const SparseSampled: Op = defineOp<SparsePatternAttrs>({
  name: "SparseSampled",
  kind: "opaque",
  own: true,
  attrs: { rows: { type: "int" }, columns: { type: "int" }, block: { type: "int" } },
  infer(inputs, attrs) {
    const g = inputType("SparseSampled", inputs, 0, ["f32", "f64"]);
    const x = inputType("SparseSampled", inputs, 1, [g.dtype]);
    const batch = g.shape.slice(0, -1).join();
    if (g.shape.at(-1) !== attrs.rows || x.shape.at(-1) !== attrs.columns || x.shape.slice(0, -1).join() !== batch)
      throw new HeddleError("bad-model", `SparseSampled: (${g.shape}) and (${x.shape}) for a matrix (${attrs.rows},${attrs.columns})`);
    return [{ dtype: g.dtype, shape: [checkPattern("SparseSampled", inputs, attrs)] }];
  },
  evaluate(inputs, node) {
    const { dtype, shape } = node.outputs[0].type;
    const { rows, columns } = node.attrs;
    const [g, x] = [toNumbers(inputs[0]!), toNumbers(inputs[1]!)]; // checked by infer
    const sums = new Float64Array(elementCount(shape));
    visitPattern(node.attrs, inputs, (row, column, i) => {
      for (let n = 0; n * rows < g.length; n++) sums[i] += g[n * rows + row] * x[n * columns + column];
    });
    return [fromNumbers(dtype, shape, sums)];
  },
  vjp({ build, grad, wants }, node) {
    const [g, x] = node.inputs as readonly Value[]; // checked by infer
    const dw = grad(0)!; // the only output
    const product = (of: Value, transposed: number) =>
      build.op("SparseMatMul", [of, dw, ...patternOf(node)], { ...node.attrs, transposed });
    return [wants(0) ? product(x, 0) : null, wants(1) ? product(g, 1) : null, ...patternOf(node).map(() => null)];
  },
  flops: ({ inputs: [g], outputs: [values], attrs }) => (2 * elementCount(g!.type.shape) * elementCount(values.type.shape)) / attrs.rows,
  samples: [{ inputs: [f32(3, 20), f32(3, 17), ...pattern], attrs: SIZES }],
});

export const sparseOps: readonly Op[] = [SparseMatMul, SparseSampled];
