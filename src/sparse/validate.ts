// Refuses matrices whose arrays contradict each other, so that products need not check: for what comes from files and from users.
import { DTYPES } from "../ir/dtype.ts";
import { HeddleError } from "../ir/error.ts";
import { type Bitmap, BLOCK_WORDS, columnOfBit, countBits, rowOfBit } from "./bitmap.ts";
import { BSR_BLOCKS, type Bsr } from "./bsr.ts";
import { type Coo, MAX_SIZE, sortCoo } from "./coo.ts";
import { type Csb, isCsbBlock, zKey } from "./csb.ts";
import { GROUPS, MACRO, type MacroBlocks } from "./macro_blocks.ts";
import { FORMAT_NAMES, type SparseMatrix, visitStored } from "./matrix.ts";
import { groupEnd, type Nibble } from "./nibble.ts";
import { groupsOf, placeBytes, placeOf, type TwoFour } from "./two_four.ts";
import { asValueType, isZero } from "./values.ts";

const bad = (m: SparseMatrix, why: string): HeddleError =>
  new HeddleError("bad-input", `${FORMAT_NAMES[m.kind]} (${m.rows}, ${m.columns}): ${why}`);

/** Returns the matrix. Throws HeddleError ("bad-input") where arrays have the wrong type or length, where pointers or positions are out of range or out of order, and where a place is stored twice. Values may be anything, NaN too. */
export function validate<M extends SparseMatrix>(matrix: M): M {
  const m: SparseMatrix = matrix;
  if (!Object.hasOwn(FORMAT_NAMES, m.kind))
    throw new HeddleError("bad-input", `sparse matrix: no format is called ${JSON.stringify(m.kind)}`);
  if (!isSize(m.rows) || !isSize(m.columns)) throw bad(m, `sizes must be whole numbers from 0 to ${MAX_SIZE}`);
  asValueType(m.dtype, FORMAT_NAMES[m.kind]);
  if (!(m.values instanceof DTYPES[m.dtype].array)) throw bad(m, `values are not an array of ${m.dtype}`);
  checkFormat(m);
  return matrix;
}

function checkFormat(m: SparseMatrix): void {
  switch (m.kind) {
    case "coo":
      checkCoo(m);
      break;
    case "csr":
      checkLines(m, m.pointers, m.column, m.rows, m.columns, m.values.length);
      break;
    case "csc":
      checkLines(m, m.pointers, m.row, m.columns, m.rows, m.values.length);
      break;
    case "bsr":
      checkBsr(m);
      break;
    case "2:4":
      checkTwoFour(m);
      break;
    case "csb":
      checkCsb(m);
      break;
    case "bitmap":
      checkBitmap(m);
      break;
    case "nibble":
      checkNibble(m);
      break;
    default:
      m satisfies never;
  }
}

const isSize = (n: number): boolean => Number.isInteger(n) && n >= 0 && n <= MAX_SIZE;

type ArrayType = typeof Uint8Array | typeof Uint16Array | typeof Uint32Array;

function checkArray(m: SparseMatrix, name: string, array: unknown, Type: ArrayType, length: number): void {
  if (!(array instanceof Type)) throw bad(m, `${name} is not a ${Type.name}`);
  if (array.length !== length) throw bad(m, `${name} has ${array.length} elements, wanted ${length}`);
}

/** From 0, not decreasing, up to `end`. */
function checkPointers(m: SparseMatrix, pointers: Uint32Array, lines: number, end: number): void {
  checkArray(m, "pointers", pointers, Uint32Array, lines + 1);
  if (pointers[0] !== 0) throw bad(m, `pointers[0] is ${pointers[0]}, wanted 0`);
  for (let i = 0; i < lines; i++)
    if (pointers[i + 1] < pointers[i]) throw bad(m, `pointers[${i + 1}] is ${pointers[i + 1]} after ${pointers[i]}: they may not decrease`);
  if (pointers[lines] !== end) throw bad(m, `pointers end at ${pointers[lines]}, ${end} elements are stored`);
}

/** Pointers to lines, and in each line ascending positions below `size`. */
function checkLines(m: SparseMatrix, pointers: Uint32Array, position: Uint32Array, lines: number, size: number, stored: number): void {
  checkArray(m, "positions", position, Uint32Array, stored);
  checkPointers(m, pointers, lines, stored);
  for (let line = 0; line < lines; line++)
    for (let i = pointers[line]; i < pointers[line + 1]; i++) {
      if (position[i] >= size) throw bad(m, `position ${position[i]} of nonzero ${i} is not below ${size}`);
      if (i > pointers[line] && position[i] <= position[i - 1])
        throw bad(
          m,
          `line ${line}: position ${position[i]} after ${position[i - 1]}: ${position[i] === position[i - 1] ? "stored twice" : "not sorted"}`,
        );
    }
}

function checkCoo(m: Coo): void {
  checkArray(m, "row", m.row, Uint32Array, m.values.length);
  checkArray(m, "column", m.column, Uint32Array, m.values.length);
  for (let i = 0; i < m.row.length; i++)
    if (m.row[i] >= m.rows || m.column[i] >= m.columns) throw bad(m, `nonzero ${i} at (${m.row[i]}, ${m.column[i]}) is outside`);
  const { row, column } = sortCoo(m);
  for (let i = 1; i < row.length; i++)
    if (row[i] === row[i - 1] && column[i] === column[i - 1]) throw bad(m, `(${row[i]}, ${column[i]}) is stored twice`);
}

function checkGrid(m: Bsr | Csb | Bitmap | Nibble, block: number): void {
  const [rows, columns] = [Math.ceil(m.rows / block), Math.ceil(m.columns / block)];
  if (m.blockRows !== rows || m.blockColumns !== columns)
    throw bad(m, `${m.blockRows}×${m.blockColumns} blocks, wanted ${rows}×${columns} of ${block}×${block}`);
}

function checkBsr(m: Bsr): void {
  if (!BSR_BLOCKS.includes(m.block)) throw bad(m, `block ${m.block}, wanted ${BSR_BLOCKS.join(", ")}`);
  checkGrid(m, m.block);
  const stored = m.values.length / m.block ** 2;
  if (!Number.isInteger(stored)) throw bad(m, `${m.values.length} values are no whole blocks`);
  checkLines(m, m.pointers, m.blockColumn, m.blockRows, m.blockColumns, stored);
  checkFill(m);
}

/** What whole blocks and pairs store outside the matrix is zero: kernels may multiply by it. */
function checkFill(m: Bsr | TwoFour): void {
  const isInside = new Uint8Array(m.values.length);
  visitStored(m, (_row, _column, slot) => {
    isInside[slot] = 1;
  });
  const slot = m.values.findIndex((value, i) => !isInside[i] && !isZero(m.dtype, value));
  if (slot >= 0) throw bad(m, `value ${slot} lies outside and is not zero`);
}

function checkTwoFour(m: TwoFour): void {
  const groups = groupsOf(m.columns);
  checkArray(m, "places", m.places, Uint8Array, m.rows * placeBytes(m.columns));
  if (m.values.length !== m.rows * groups * 2) throw bad(m, `${m.values.length} values, wanted ${m.rows * groups * 2}`);
  for (let row = 0; row < m.rows; row++)
    for (let group = 0; group < groups; group++) {
      const [low, high] = [placeOf(m, row, group, 0), placeOf(m, row, group, 1)];
      if (low >= high) throw bad(m, `row ${row}, group ${group}: places ${low} and ${high}, wanted them to ascend`);
    }
  checkFill(m);
}

function checkCsb(m: Csb): void {
  if (!isCsbBlock(m.block)) throw bad(m, `block ${m.block}, wanted a power of two from 8 to 65536`);
  if (!["row", "column", "z"].includes(m.order)) throw bad(m, `order ${JSON.stringify(m.order)}, wanted row, column or z`);
  checkGrid(m, m.block);
  const Local = m.block <= 256 ? Uint8Array : Uint16Array;
  checkArray(m, "row", m.row, Local, m.values.length);
  checkArray(m, "column", m.column, Local, m.values.length);
  checkPointers(m, m.pointers, m.blockRows * m.blockColumns, m.values.length);
  for (let b = 0; b < m.blockRows * m.blockColumns; b++) checkCsbBlock(m, b);
}

function checkCsbBlock(m: Csb, b: number): void {
  const height = Math.min(m.block, m.rows - Math.floor(b / m.blockColumns) * m.block);
  const width = Math.min(m.block, m.columns - (b % m.blockColumns) * m.block);
  let before = -1;
  for (let i = m.pointers[b]; i < m.pointers[b + 1]; i++) {
    const [row, column] = [m.row[i], m.column[i]];
    if (row >= height || column >= width) throw bad(m, `block ${b}: nonzero ${i} at (${row}, ${column}) is outside ${height}×${width}`);
    const key = m.order === "z" ? zKey(row, column) : m.order === "row" ? row * m.block + column : column * m.block + row;
    if (key <= before) throw bad(m, `block ${b}: nonzero ${i} at (${row}, ${column}) is ${key === before ? "stored twice" : "not sorted"}`);
    before = key;
  }
}

/** The arrays that say how many nonzeros lie where, except what they say. */
function checkMacroBlocks(m: Bitmap | Nibble): number {
  checkGrid(m, MACRO);
  const blocks = m.blockRows * m.blockColumns;
  checkPointers(m, m.pointers, blocks, m.values.length);
  checkArray(m, "prefix", m.prefix, Uint16Array, blocks * GROUPS);
  return blocks;
}

function checkBitmap(m: Bitmap): void {
  checkArray(m, "bits", m.bits, Uint32Array, checkMacroBlocks(m) * BLOCK_WORDS);
  const counts: Pick<MacroBlocks, "pointers" | "prefix"> = countBits(m.bits);
  for (const name of ["pointers", "prefix"] as const)
    for (let i = 0; i < counts[name].length; i++)
      if (counts[name][i] !== m[name][i]) throw bad(m, `${name}[${i}] is ${m[name][i]}, the bitmaps have ${counts[name][i]}`);
  for (let w = 0; w < m.bits.length; w++) {
    const block = Math.floor(w / BLOCK_WORDS);
    const [firstRow, firstColumn] = [Math.floor(block / m.blockColumns) * MACRO, (block % m.blockColumns) * MACRO];
    if (firstRow + MACRO <= m.rows && firstColumn + MACRO <= m.columns) continue;
    for (let bit = 0; bit < 32; bit++) {
      const at = (w % BLOCK_WORDS) * 32 + bit;
      const [row, column] = [firstRow + rowOfBit(at), firstColumn + columnOfBit(at)];
      if ((m.bits[w] >>> bit) & 1 && (row >= m.rows || column >= m.columns)) throw bad(m, `a bit is set at (${row}, ${column}), outside`);
    }
  }
}

function checkNibble(m: Nibble): void {
  const blocks = checkMacroBlocks(m);
  checkArray(m, "local", m.local, Uint8Array, m.values.length);
  for (let b = 0; b < blocks; b++) {
    if (m.prefix[b * GROUPS] !== 0) throw bad(m, `block ${b}: ${m.prefix[b * GROUPS]} nonzeros before its first group`);
    for (let g = 0; g < GROUPS; g++) checkNibbleGroup(m, b, g);
  }
}

function checkNibbleGroup(m: Nibble, b: number, g: number): void {
  const start = m.pointers[b] + m.prefix[b * GROUPS + g];
  const end = groupEnd(m, b, g);
  if (end < start || end > m.pointers[b + 1]) throw bad(m, `block ${b}, group ${g}: from nonzero ${start} to ${end}`);
  const height = m.rows - Math.floor(b / m.blockColumns) * MACRO - (g >> 2) * 16;
  const width = m.columns - (b % m.blockColumns) * MACRO - (g & 3) * 16;
  for (let i = start; i < end; i++) {
    const [row, column] = [m.local[i] >> 4, m.local[i] & 15];
    if (row >= height || column >= width) throw bad(m, `block ${b}, group ${g}: nonzero ${i} at (${row}, ${column}) is outside`);
    if (i > start && m.local[i] <= m.local[i - 1])
      throw bad(m, `block ${b}, group ${g}: nonzero ${i} is ${m.local[i] === m.local[i - 1] ? "stored twice" : "not sorted"}`);
  }
}
