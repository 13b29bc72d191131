// Instructions of one WebAssembly function, one call each, to its body's bytes and, where asked for, its text.
import { invariant } from "../../ir/error.ts";
import { type Immediate, OPCODES, type Opcode, type OpcodeName } from "./opcodes.ts";

export type ValueType = "i32" | "i64" | "f32" | "v128";
export const VALUE_TYPES: Readonly<Record<ValueType, number>> = { i32: 0x7f, i64: 0x7e, f32: 0x7d, v128: 0x7b };
/** Block type of blocks that leave nothing on the stack. */
const EMPTY = 0x40;

export function pushUnsigned(out: number[], value: number): void {
  let n = value;
  for (; n >= 0x80; n = Math.floor(n / 128)) out.push((n % 128) | 0x80);
  out.push(n);
}

export function pushSigned(out: number[], value: bigint): void {
  let n = value;
  for (;;) {
    const low = Number(n & 0x7fn);
    n >>= 7n;
    const isLast = (n === 0n && low < 0x40) || (n === -1n && low >= 0x40);
    out.push(isLast ? low : low | 0x80);
    if (isLast) return;
  }
}

/** How many numbers op() takes for an immediate. */
const COUNTS: Readonly<Record<Immediate, number>> = {
  none: 0,
  index: 1,
  i32: 1,
  i64: 1,
  f32: 1,
  memory: 1,
  lane: 2,
  pick: 1,
  bytes: 16,
  block: 0,
  call_indirect: 1,
};

export class FunctionWriter {
  readonly lines: string[] = [];
  private readonly code: number[] = [];
  private readonly locals: ValueType[] = [];
  private depth = 1;

  constructor(
    readonly params: readonly ValueType[],
    private readonly isListing = false,
  ) {}

  /** A new local variable, zero at first. */
  local(type: ValueType): number {
    return this.params.length + this.locals.push(type) - 1;
  }

  /** One instruction with its immediates: index, constant, memory offset (and lane), lane, or 16 bytes. */
  op(name: OpcodeName, ...immediates: readonly number[]): void {
    const row: Opcode = OPCODES[name];
    invariant(immediates.length === COUNTS[row.immediate], `${name} takes ${COUNTS[row.immediate]} immediates`);
    for (const byte of row.code) this.code.push(byte);
    this.immediate(row, immediates);
    if (this.isListing) this.list(name, row, immediates);
  }

  private immediate(row: Opcode, [first = 0, second = 0, ...rest]: readonly number[]): void {
    const { code } = this;
    switch (row.immediate) {
      case "none":
        break;
      case "index":
        pushUnsigned(code, first);
        break;
      case "i32":
        pushSigned(code, BigInt(first | 0));
        break;
      case "i64":
        pushSigned(code, BigInt(first));
        break;
      case "f32":
        code.push(...new Uint8Array(Float32Array.of(first).buffer));
        break;
      case "memory":
      case "lane":
        code.push(row.align);
        pushUnsigned(code, first);
        if (row.immediate === "lane") code.push(second);
        break;
      case "pick":
        code.push(first);
        break;
      case "bytes":
        code.push(first, second, ...rest);
        break;
      case "block":
        code.push(EMPTY);
        break;
      case "call_indirect":
        pushUnsigned(code, first);
        code.push(0);
        break;
      default:
        row.immediate satisfies never;
    }
  }

  private list(name: OpcodeName, row: Opcode, immediates: readonly number[]): void {
    if (name === "end" || name === "else") this.depth--;
    this.lines.push(`${"  ".repeat(this.depth)}${name}${immediateText(row.immediate, immediates)}`);
    if (row.immediate === "block" || name === "else") this.depth++;
  }

  /** A line of the listing. */
  comment(text: string): void {
    if (this.isListing) this.lines.push(`${"  ".repeat(this.depth)};; ${text}`);
  }

  get(local: number): void {
    this.op("local.get", local);
  }
  set(local: number): void {
    this.op("local.set", local);
  }
  i32(value: number): void {
    this.op("i32.const", value);
  }

  /** Locals, instructions and the final `end`. */
  finish(): Uint8Array {
    const groups: [number, ValueType][] = [];
    for (const type of this.locals) {
      const last = groups[groups.length - 1];
      if (last?.[1] === type) last[0]++;
      else groups.push([1, type]);
    }
    const head: number[] = [];
    pushUnsigned(head, groups.length);
    for (const [count, type] of groups) {
      pushUnsigned(head, count);
      head.push(VALUE_TYPES[type]);
    }
    return Uint8Array.from([...head, ...this.code, OPCODES.end.code[0]]);
  }
}

function immediateText(kind: Immediate, values: readonly number[]): string {
  switch (kind) {
    case "none":
    case "block":
      return "";
    case "memory":
      return values[0] ? ` offset=${values[0]}` : "";
    case "lane":
      return `${values[0] ? ` offset=${values[0]}` : ""} ${values[1]}`;
    default:
      return ` ${values.join(" ")}`;
  }
}
