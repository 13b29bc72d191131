// Bytes in the wire format of Protocol Buffers (protobuf.dev, "Encoding") → messages, as the table in messages.ts says.
// Written for ONNX, because a general library costs a cold start more than all the rest of reading: it loads and links descriptors first.
import { HeddleError } from "../../ir/error.ts";
import { BYTES4, BYTES8, type Field, LENGTH, type Message, NONE, type Scalar, VARINT, WIRE } from "./messages.ts";

/** Messages nested deeper than this are refused; a sub-graph takes three levels. */
const MAX_NESTING = 128;

type Fields = Record<string, unknown>;

/** The message in `bytes`; its bytes fields are views of them. Fields that are not in the table are left out. Throws HeddleError. */
export function decode<T>(message: Message<T>, bytes: Uint8Array): T {
  return new Reader(bytes).message(message, message.empty(), bytes.length, 0);
}

const bad = (why: string): HeddleError => new HeddleError("bad-model", `model: not a valid ONNX file, or cut short (${why})`);

/** What a browser has in a Buffer's place. */
function decoderOf(bytes: Uint8Array): Pick<Buffer, "toString"> {
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  return { toString: (_encoding, from, to) => decoder.decode(bytes.subarray(from, to)) };
}

class Reader {
  private readonly view: DataView;
  /** The same memory: its texts and parts are made in native code, which TextDecoder and a Buffer's subarray reach only through JavaScript of Node. */
  private readonly buffer: Pick<Buffer, "toString">;
  private at = 0;
  /** Upper half of the varint that was read last. */
  private high = 0;

  constructor(private readonly bytes: Uint8Array) {
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    this.buffer = typeof Buffer === "undefined" ? decoderOf(bytes) : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  /** Reads fields up to `end` into the message. */
  message<T>(message: Message<T>, into: T, end: number, depth: number): T {
    if (depth > MAX_NESTING) throw new HeddleError("limit", `model: messages are nested more than ${MAX_NESTING} deep`);
    const { fields } = message;
    const out = into as Fields; // fields are named by the message's own table
    while (this.at < end) {
      const tag = this.varint(end);
      const field = fields[tag >>> 3];
      const wire = tag & 7;
      if (field === undefined) this.skip(tag, end);
      else if (typeof field.type === "object") this.nested(field, field.type, out, wire, end, depth);
      else if (!field.many) {
        if (wire !== WIRE[field.type]) throw bad(`${message.name}: ${field.name} is stored in another form`);
        out[field.name] = this.scalar(field.type, end);
      } else this.list(message, field, field.type, out, wire, end);
    }
    return into;
  }

  /** A message in a field. One that is there twice is read into the first, as the format wants it. */
  private nested(field: Field, message: Message, out: Fields, wire: number, end: number, depth: number): void {
    if (wire !== LENGTH) throw bad(`${message.name} is stored in another form`);
    const last = this.length(end);
    const known = field.many ? undefined : out[field.name];
    const value = this.message(message, known ?? message.empty(), last, depth + 1);
    if (!field.many) out[field.name] = value;
    else if (out[field.name] === NONE) out[field.name] = [value];
    else (out[field.name] as unknown[]).push(value);
  }

  /** One element of a list, or several packed behind each other. */
  private list(message: Message, { name }: Field, type: Scalar, out: Fields, wire: number, end: number): void {
    if (out[name] === NONE) out[name] = [];
    const list = out[name] as unknown[];
    if (wire === WIRE[type]) list.push(this.scalar(type, end));
    else if (wire === LENGTH) for (const last = this.length(end); this.at < last; ) list.push(this.scalar(type, last));
    else throw bad(`${message.name}: ${name} is stored in another form`);
  }

  private scalar(type: Scalar, end: number): string | Uint8Array | number | bigint {
    switch (type) {
      case "string": {
        const last = this.length(end);
        const text = this.at === last ? "" : this.buffer.toString("utf8", this.at, last);
        this.at = last;
        return text;
      }
      case "bytes": {
        const last = this.length(end);
        const part = new Uint8Array(this.bytes.buffer, this.bytes.byteOffset + this.at, last - this.at);
        this.at = last;
        return part;
      }
      case "int32":
        return this.varint(end) | 0;
      case "int64": {
        const low = this.varint(end);
        return this.high === 0 ? BigInt(low) : (BigInt(this.high | 0) << 32n) | BigInt(low);
      }
      case "uint64": {
        const low = this.varint(end);
        return this.high === 0 ? BigInt(low) : (BigInt(this.high) << 32n) | BigInt(low);
      }
      case "float":
        return this.view.getFloat32(this.take(4, end), true);
      case "double":
        return this.view.getFloat64(this.take(8, end), true);
      default:
        return type satisfies never;
    }
  }

  /** Goes on by `count` bytes; returns where they start. */
  private take(count: number, end: number): number {
    const { at } = this;
    if (count > end - at) throw bad(`${count} bytes wanted at ${at}, ${end - at} are left`);
    this.at = at + count;
    return at;
  }

  /** Where what follows ends, from its length. */
  private length(end: number): number {
    const count = this.varint(end);
    if (count > end - this.at || this.high !== 0) throw bad(`${count} bytes wanted at ${this.at}, ${end - this.at} are left`);
    return this.at + count;
  }

  /** The lower 32 bits of a varint; `high` holds the upper ones. */
  private varint(end: number): number {
    this.high = 0;
    if (this.at < end && this.bytes[this.at] < 128) return this.bytes[this.at++];
    let low = 0;
    for (let shift = 0; shift < 70; shift += 7) {
      if (this.at >= end) throw bad(`a number at ${this.at} does not end`);
      const byte = this.bytes[this.at++];
      const bits = byte & 127;
      if (shift < 28) low |= bits << shift;
      else if (shift === 28) {
        low |= bits << 28;
        this.high = bits >> 4;
      } else if (shift < 63) this.high |= bits << (shift - 32);
      else this.high |= (bits & 1) << 31;
      if (byte < 128) {
        this.high >>>= 0;
        return low >>> 0;
      }
    }
    throw bad(`the number before ${this.at} has more than ten bytes`);
  }

  private skip(tag: number, end: number): void {
    const wire = tag & 7;
    if (tag < 8) throw bad(`byte ${this.at - 1} starts no field`);
    if (wire === VARINT) this.varint(end);
    else if (wire === LENGTH) this.at = this.length(end);
    else if (wire === BYTES4) this.take(4, end);
    else if (wire === BYTES8) this.take(8, end);
    else throw bad(`byte ${this.at - 1} starts no field`); // groups have never been in ONNX
  }
}
