// Rows of weights → the rows times a factor each, and the sum of each: in WebAssembly, because millions of numbers pass here once, in a process that has just started.
// A loop in JavaScript would be interpreted until a thread has compiled it, 5 to 20 ms for the 6 MB of a small network; this one takes 3, whatever else the machine does.

/** What is at row r of `table`: its factor, and then the sum before it was multiplied. */
const ENTRY_BYTES = 16;
const PAGE_BYTES = 65536;
/** Numbers pass through a window of this many pages, half of it the table, so that they stay in the nearest caches. */
const PAGES = 2;
const MAX_ROWS = PAGE_BYTES / ENTRY_BYTES;
const MAX_NUMBERS = PAGE_BYTES / 4;

const [I32, F64, NOTHING] = [0x7f, 0x7c, 0x40];
const [AT, BYTES, ROW, ROW_END, NUMBERS_END, FACTOR, SUM, X] = [0, 1, 2, 3, 4, 5, 6, 7];
const get = (local: number) => [0x20, local];
const set = (local: number) => [0x21, local];
const tee = (local: number) => [0x22, local];
const add = (local: number, bytes: number) => [...get(local), 0x41, bytes, 0x6a, ...tee(local)];
const againBelow = (end: number) => [...get(end), 0x49, 0x0d, 0]; // i32.lt_u, br_if
const loop = (...body: number[][]) => [0x03, NOTHING, ...body.flat(), 0x0b];

/** for each row: factor = [row]; sum = 0; for each number: x = [at]; [at] = x · factor; sum += x; then [row + 8] = sum */
const body = () =>
  loop(
    [...get(ROW), 0x2b, 3, 0, ...set(FACTOR)], // f64.load
    [0x44, 0, 0, 0, 0, 0, 0, 0, 0, ...set(SUM)], // f64.const
    [...get(AT), ...get(BYTES), 0x6a, ...set(NUMBERS_END)],
    loop(
      [...get(AT), ...get(AT), 0x2a, 2, 0, 0xbb, ...tee(X)], // f32.load, f64.promote
      [...get(FACTOR), 0xa2, 0xb6, 0x38, 2, 0], // f64.mul, f32.demote, f32.store
      [...get(SUM), ...get(X), 0xa0, ...set(SUM)], // f64.add
      [...add(AT, 4), ...againBelow(NUMBERS_END)],
    ),
    [...get(ROW), ...get(SUM), 0x39, 3, 8], // f64.store
    [...add(ROW, ENTRY_BYTES), ...againBelow(ROW_END)],
  );

const sized = (bytes: readonly number[]) => [bytes.length, ...bytes]; // all are shorter than 128
const section = (id: number, bytes: readonly number[]) => [id, ...sized(bytes)];
const name = (text: string) => sized([...text].map((c) => c.charCodeAt(0)));
const moduleBytes = (): Uint8Array<ArrayBuffer> =>
  Uint8Array.from([
    ...[0, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    ...section(1, [1, 0x60, ...sized([I32, I32, I32, I32]), 0]), // one type: four numbers, no result
    ...section(3, [1, 0]),
    ...section(5, [1, 0, PAGES]),
    ...section(7, [2, ...name("rows"), 0, 0, ...name("memory"), 2, 0]),
    ...section(10, [1, ...sized([2, 1, I32, 3, F64, ...body(), 0x0b])]),
  ]);

interface Window {
  readonly table: Float64Array;
  readonly bytes: Uint8Array;
  readonly numbers: Float32Array;
  rows(at: number, bytes: number, row: number, rowEnd: number): void;
}

let opened: Window | null | undefined;

/** Null where there is no WebAssembly, or a page may not use it. */
function open(): Window | null {
  try {
    const { exports } = new WebAssembly.Instance(new WebAssembly.Module(moduleBytes()));
    const { rows, memory } = exports as { rows: Window["rows"]; memory: WebAssembly.Memory }; // as the sections say
    const { buffer } = memory;
    return { rows, table: new Float64Array(buffer, 0, MAX_ROWS * 2), bytes: new Uint8Array(buffer, PAGE_BYTES), numbers: new Float32Array(buffer, PAGE_BYTES) }; // biome-ignore format: one idea
  } catch {
    return null;
  }
}

/** to = from · factors, `length` numbers a row; `sums` gets the sum of each row of `from`, which are little-endian float32, aligned or not. */
export function foldRows(from: Uint8Array, to: Float32Array, factors: Float64Array, sums: Float64Array, length: number): void {
  if (length === 0) return;
  if (opened === undefined) opened = open();
  if (!opened) {
    const numbers = new Float32Array(new Uint8Array(from.subarray(0, factors.length * length * 4)).buffer);
    foldRowsPlainly(numbers, factors, sums, length);
    to.set(numbers);
    return;
  }
  const { table, bytes, numbers, rows } = opened;
  const piece = Math.min(length, MAX_NUMBERS); // of a row that is too long for the window
  const together = Math.min(MAX_ROWS, Math.floor(MAX_NUMBERS / piece));
  for (let row = 0; row < factors.length; row += together) {
    const count = Math.min(together, factors.length - row);
    for (let i = 0; i < count; i++) table[2 * i] = factors[row + i];
    for (let done = 0; done < length; done += piece) {
      const start = row * length + done;
      const size = Math.min(piece, length - done);
      bytes.set(from.subarray(start * 4, (start + count * size) * 4));
      rows(PAGE_BYTES, size * 4, 0, count * ENTRY_BYTES);
      to.set(numbers.subarray(0, count * size), start);
      for (let i = 0; i < count; i++) sums[row + i] += table[2 * i + 1];
    }
  }
}

/** The same in JavaScript and in place, for other types. */
export function foldRowsPlainly(numbers: Float32Array | Float64Array, factors: Float64Array, sums: Float64Array, length: number): void {
  for (let row = 0, k = 0; row < factors.length; row++) {
    let sum = 0;
    for (const end = k + length; k < end; k++) {
      sum += numbers[k];
      numbers[k] *= factors[row];
    }
    sums[row] += sum;
  }
}
