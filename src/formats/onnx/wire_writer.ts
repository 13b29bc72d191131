// Messages → bytes in the wire format of Protocol Buffers (protobuf.dev, "Encoding"), as the table in messages.ts says.
import { type Field, LENGTH, type Message, type Scalar, WIRE } from "./messages.ts";

type Fields = Readonly<Record<string, unknown>>;

/** The bytes of a message. Fields that are as in an empty message are left out. */
export function encode<T extends object>(message: Message<T>, value: T): Uint8Array<ArrayBuffer> {
  const writer = new Writer();
  writer.message(message, value);
  return writer.bytes();
}

class Writer {
  /** Finished parts; large byte fields are not copied until all is joined. */
  private readonly parts: Uint8Array[] = [];
  private small: number[] = [];
  private size = 0;
  private readonly text = new TextEncoder();

  message(message: Message, value: unknown): void {
    const empty = message.empty() as Fields; // both are what the message's own table names
    const from = value as Fields;
    for (const [number, field] of message.fields.entries()) {
      const given = field && from[field.name];
      if (!field || given === undefined || given === empty[field.name]) continue;
      if (field.many) this.list(number, field, given as readonly unknown[]);
      else this.field(number, field, given);
    }
  }

  /** Numbers are packed behind each other; others are fields of their own. */
  private list(number: number, field: Field, values: readonly unknown[]): void {
    const { type } = field;
    if (values.length === 0) return;
    if (typeof type === "object" || WIRE[type] === LENGTH) for (const value of values) this.field(number, field, value);
    else
      this.inside(number, (writer) => {
        for (const value of values) writer.scalar(type, value);
      });
  }

  private field(number: number, { type }: Field, value: unknown): void {
    if (typeof type === "object") this.inside(number, (writer) => writer.message(type, value));
    else {
      this.varint(BigInt(number * 8 + WIRE[type]));
      this.scalar(type, value);
    }
  }

  private inside(number: number, write: (writer: Writer) => void): void {
    const inner = new Writer();
    write(inner);
    inner.flush();
    this.varint(BigInt(number * 8 + LENGTH));
    this.varint(BigInt(inner.size));
    this.flush();
    for (const part of inner.parts) this.parts.push(part);
    this.size += inner.size;
  }

  /** The value has the type of its field. */
  private scalar(type: Scalar, value: unknown): void {
    const bytes = this.bytesOf(type, value);
    if (bytes === null) this.varint(BigInt(value as number | bigint));
    else {
      if (WIRE[type] === LENGTH) this.varint(BigInt(bytes.length));
      this.push(bytes);
    }
  }

  /** How a value is stored; null: as a varint. */
  private bytesOf(type: Scalar, value: unknown): Uint8Array | null {
    switch (type) {
      case "string":
        return this.text.encode(value as string);
      case "bytes":
        return value as Uint8Array;
      case "float":
        return new Uint8Array(Float32Array.of(value as number).buffer);
      case "double":
        return new Uint8Array(Float64Array.of(value as number).buffer);
      case "int32":
      case "int64":
      case "uint64":
        return null;
      default:
        return type satisfies never;
    }
  }

  private push(bytes: Uint8Array): void {
    this.flush();
    this.parts.push(bytes);
    this.size += bytes.length;
  }

  private varint(value: bigint): void {
    for (let rest = BigInt.asUintN(64, value); ; rest >>= 7n) {
      this.small.push(rest < 128n ? Number(rest) : Number(rest & 127n) | 128);
      if (rest < 128n) return;
    }
  }

  private flush(): void {
    if (this.small.length === 0) return;
    this.parts.push(Uint8Array.from(this.small));
    this.size += this.small.length;
    this.small = [];
  }

  bytes(): Uint8Array<ArrayBuffer> {
    this.flush();
    const all = new Uint8Array(this.size);
    let at = 0;
    for (const part of this.parts) {
      all.set(part, at);
      at += part.length;
    }
    return all;
  }
}
