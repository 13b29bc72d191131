// Matrix Market text (.mtx, gzipped or not; Boisvert et al. 1996) ↔ sparse matrix.
import { HeddleError } from "../ir/error.ts";
import { toCoo } from "../sparse/convert.ts";
import { type Coo, MAX_SIZE, sortCoo } from "../sparse/coo.ts";
import type { SparseMatrix } from "../sparse/matrix.ts";
import { validate } from "../sparse/validate.ts";
import { isZero, type ValueType, valuesFromNumbers, valuesToNumbers } from "../sparse/values.ts";
import { gunzip } from "./gunzip.ts";

const FIELDS = ["real", "double", "integer", "pattern"] as const;
const SYMMETRIES = ["general", "symmetric", "skew-symmetric"] as const;

interface Banner {
  readonly isArray: boolean;
  readonly field: (typeof FIELDS)[number];
  readonly symmetry: (typeof SYMMETRIES)[number];
}

export interface MatrixMarketOptions {
  /** What values are rounded to. */
  readonly dtype?: ValueType;
  /** Names the file in errors. */
  readonly what?: string;
}

/** The matrix, row by row; of a symmetric one both halves. Throws HeddleError ("bad-input", "unsupported", "limit") naming the line. */
export function readMatrixMarket(file: Uint8Array, { dtype = "f32", what = "Matrix Market" }: MatrixMarketOptions = {}): Coo {
  const lines = new Lines(gunzip(file, what), what);
  const banner = readBanner(lines);
  const [rows, columns, stored] = readSizes(lines, banner);
  const entries = new Entries(rows, columns, banner.symmetry, lines);
  if (banner.isArray) readArray(lines, banner, entries);
  else for (let i = 0; i < stored; i++) readCoordinate(lines, banner, entries);
  if (lines.next()) throw lines.bad("there is more after the last entry");
  return validate(sortCoo(entries.matrix(dtype)));
}

function readBanner(lines: Lines): Banner {
  const [tag = "", object, format, field, symmetry, ...rest] = lines.first();
  if (tag.toLowerCase() !== "%%matrixmarket") throw lines.bad("not a Matrix Market file (it starts with %%MatrixMarket)");
  if (object !== "matrix" || rest.length > 0) throw lines.bad("wanted: %%MatrixMarket matrix FORMAT FIELD SYMMETRY");
  return {
    isArray: oneOf(lines, ["array", "coordinate"], format) === "array",
    field: oneOf(lines, FIELDS, field),
    symmetry: oneOf(lines, SYMMETRIES, symmetry),
  };
}

function oneOf<T extends string>(lines: Lines, known: readonly T[], word = ""): T {
  const found = known.find((k) => k === word);
  if (!found) throw lines.bad(`${quoted(word)} is not supported (${known.join(", ")} are)`, "unsupported");
  return found;
}

/** Rows, columns and how many entries the file has; refused where its bytes cannot hold them. */
function readSizes(lines: Lines, { isArray, field, symmetry }: Banner): [number, number, number] {
  const words = lines.wanted("sizes");
  if (isArray && field === "pattern") throw lines.bad("an array cannot have the field pattern");
  if (words.length !== (isArray ? 2 : 3)) throw lines.bad(isArray ? "wanted: ROWS COLUMNS" : "wanted: ROWS COLUMNS ENTRIES");
  const sizes = words.map((word) => lines.count(word, MAX_SIZE));
  const [rows, columns, stored = 0] = sizes;
  if (symmetry !== "general" && rows !== columns) throw lines.bad(`(${rows}, ${columns}) is not square, so it cannot be ${symmetry}`);
  const shortest = isArray ? (rows * columns * 2) / (symmetry === "general" ? 1 : 3) : stored * 4; // "1\n" and "1 1\n"; over a third of a square is written, or the banner makes up for it
  if (shortest > lines.bytes.length + 2) throw lines.bad(`the file is too short for ${isArray ? `${rows}×${columns}` : stored} entries`);
  return [rows, columns, stored];
}

function readCoordinate(lines: Lines, { field }: Banner, entries: Entries): void {
  const words = lines.wanted("an entry");
  if (words.length !== (field === "pattern" ? 2 : 3))
    throw lines.bad(`an entry of ${words.length} words, wanted ${field === "pattern" ? "ROW COLUMN" : "ROW COLUMN VALUE"}`);
  const row = lines.index(words[0], entries.rows);
  const column = lines.index(words[1], entries.columns);
  entries.add(row, column, field === "pattern" ? 1 : lines.number(words[2], field === "integer"));
}

/** Column by column; of symmetric ones what lies on and below the diagonal, of skew-symmetric ones below. */
function readArray(lines: Lines, { field, symmetry }: Banner, entries: Entries): void {
  const { rows, columns } = entries;
  for (let column = 0; column < columns; column++)
    for (let row = symmetry === "general" ? 0 : symmetry === "symmetric" ? column : column + 1; row < rows; row++) {
      const words = lines.wanted("an entry");
      if (words.length !== 1) throw lines.bad(`an entry of ${words.length} words, wanted VALUE`);
      const value = lines.number(words[0], field === "integer");
      if (value !== 0) entries.add(row, column, value);
    }
}

/** Nonzeros as they are read, with those that symmetry adds. */
class Entries {
  private readonly row: number[] = [];
  private readonly column: number[] = [];
  private readonly values: number[] = [];

  constructor(
    readonly rows: number,
    readonly columns: number,
    private readonly symmetry: Banner["symmetry"],
    private readonly lines: Lines,
  ) {}

  add(row: number, column: number, value: number): void {
    this.push(row, column, value);
    if (this.symmetry === "general") return;
    const isSkew = this.symmetry === "skew-symmetric";
    if (row !== column) this.push(column, row, isSkew ? -value : value);
    else if (isSkew) throw this.lines.bad("the diagonal of a skew-symmetric matrix has no entries");
  }

  private push(row: number, column: number, value: number): void {
    this.row.push(row);
    this.column.push(column);
    this.values.push(value);
  }

  matrix(dtype: ValueType): Coo {
    const { rows, columns } = this;
    const values = valuesFromNumbers(dtype, this.values);
    return { kind: "coo", rows, columns, dtype, row: Uint32Array.from(this.row), column: Uint32Array.from(this.column), values };
  }
}

/** Longer ones hold no matrix. */
const MAX_LINE = 1024;
const NUMBER = /^[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:[ed][+-]?\d+)?|inf|infinity|nan)$/;
const quoted = (word: string): string => JSON.stringify(word.length > 40 ? `${word.slice(0, 40)}…` : word);

/** Lines as lower-case words; comments and empty lines are left out. */
class Lines {
  private at = 0;
  private line = 0;
  private readonly text: Buffer;

  constructor(
    readonly bytes: Uint8Array,
    private readonly what: string,
  ) {
    this.text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  bad(why: string, code: "bad-input" | "unsupported" = "bad-input"): HeddleError {
    return new HeddleError(code, `${this.what}: line ${this.line}: ${why}`);
  }

  private read(): string {
    const newline = this.text.indexOf(10, this.at);
    const end = newline < 0 ? this.bytes.length : newline;
    this.line++;
    if (end - this.at > MAX_LINE) throw this.bad(`${end - this.at} characters, lines have up to ${MAX_LINE}`);
    const line = this.text.toString("latin1", this.at, end).trim();
    this.at = end + 1;
    return line.toLowerCase();
  }

  first(): string[] {
    return this.read().split(/\s+/);
  }

  next(): string[] | undefined {
    while (this.at < this.bytes.length) {
      const line = this.read();
      if (line !== "" && !line.startsWith("%")) return line.split(/\s+/);
    }
    return undefined;
  }

  wanted(what: string): string[] {
    const words = this.next();
    if (!words) throw this.bad(`the file ends where ${what} should come`);
    return words;
  }

  count(word: string, most: number): number {
    if (!/^\d+$/.test(word) || Number(word) > most) throw this.bad(`${quoted(word)} is not a number from 0 to ${most}`);
    return Number(word);
  }

  /** Counted from 1 in the file, from 0 here. */
  index(word: string, size: number): number {
    const index = this.count(word, MAX_SIZE);
    if (index < 1 || index > size) throw this.bad(`index ${index} is not from 1 to ${size}`);
    return index - 1;
  }

  number(word: string, isWhole: boolean): number {
    if (isWhole ? !/^[+-]?\d+$/.test(word) : !NUMBER.test(word))
      throw this.bad(`${quoted(word)} is not ${isWhole ? "a whole" : "a"} number`);
    const sign = word.startsWith("-") ? -1 : 1;
    if (word.endsWith("nan")) return Number.NaN;
    return word.includes("inf") ? sign * Number.POSITIVE_INFINITY : Number(word.replace("d", "e")); // Fortran writes 1d0
  }
}

/** The text of a general matrix in coordinates, row by row: exact, and equal for equal matrices. */
export function writeMatrixMarket(m: SparseMatrix): Uint8Array {
  const { rows, columns, dtype, row, column, values } = sortCoo(toCoo(m));
  const numbers = valuesToNumbers(dtype, values);
  const lines = [`%%MatrixMarket matrix coordinate ${dtype === "i8" ? "integer" : "real"} general`, `${rows} ${columns} ${numbers.length}`];
  for (let i = 0; i < numbers.length; i++) lines.push(`${row[i] + 1} ${column[i] + 1} ${isZero(dtype, values[i]) ? 0 : numbers[i]}`);
  return Buffer.from(`${lines.join("\n")}\n`);
}
