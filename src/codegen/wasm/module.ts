// Function bodies to the bytes of a WebAssembly module that imports its memory and holds every function in one table.
import { pushUnsigned, VALUE_TYPES, type ValueType } from "./writer.ts";

export interface WasmFunction {
  readonly params: readonly ValueType[];
  readonly results: readonly ValueType[];
  /** As FunctionWriter.finish() gives it. */
  readonly body: Uint8Array;
  readonly exportName?: string;
}

export interface ModuleOptions {
  /** Memory that several threads see: its size is bounded by 65,536 pages of 64 KiB. */
  readonly sharedMemory: boolean;
}

const MAGIC = [0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00];
const MAX_PAGES = 65536;
const FUNCTION_TYPE = 0x60;
const FUNCREF = 0x70;
const [KIND_FUNCTION, KIND_MEMORY] = [0, 2];

/** Bytes that grow in place: modules reach megabytes, too many for spread arguments. */
class Bytes {
  private buffer = new Uint8Array(1024);
  length = 0;
  push(bytes: ArrayLike<number>): this {
    if (this.length + bytes.length > this.buffer.length) {
      const grown = new Uint8Array(2 * (this.length + bytes.length));
      grown.set(this.buffer.subarray(0, this.length));
      this.buffer = grown;
    }
    this.buffer.set(bytes, this.length);
    this.length += bytes.length;
    return this;
  }
  unsigned(n: number): this {
    const out: number[] = [];
    pushUnsigned(out, n);
    return this.push(out);
  }
  name(text: string): this {
    const bytes = new TextEncoder().encode(text);
    return this.unsigned(bytes.length).push(bytes);
  }
  section(id: number, fill: (out: Bytes) => void): this {
    const content = new Bytes();
    fill(content);
    return this.push([id]).unsigned(content.length).push(content.done());
  }
  done(): Uint8Array<ArrayBuffer> {
    return this.buffer.slice(0, this.length);
  }
}

const signature = (f: WasmFunction): string => `${f.params.join()}>${f.results.join()}`;

/** A module importing env.memory; table slot i holds function i; types are numbered in the order of their first use. */
export function buildModule(functions: readonly WasmFunction[], { sharedMemory }: ModuleOptions): Uint8Array<ArrayBuffer> {
  const types = [...new Map(functions.map((f) => [signature(f), f])).values()];
  const typeOf = new Map(types.map((f, i) => [signature(f), i]));
  const count = functions.length;
  const exported = functions.flatMap((f, i) => (f.exportName === undefined ? [] : [{ name: f.exportName, index: i }]));
  const out = new Bytes().push(MAGIC);
  out.section(1, (s) => {
    s.unsigned(types.length);
    for (const { params, results } of types)
      for (const [i, list] of [params, results].entries()) {
        if (i === 0) s.push([FUNCTION_TYPE]);
        s.unsigned(list.length).push(list.map((t) => VALUE_TYPES[t]));
      }
  });
  out.section(2, (s) => {
    s.unsigned(1).name("env").name("memory").push([KIND_MEMORY]);
    if (sharedMemory) s.push([3]).unsigned(0).unsigned(MAX_PAGES);
    else s.push([0]).unsigned(0);
  });
  out.section(3, (s) => {
    s.unsigned(count);
    for (const f of functions) s.unsigned(typeOf.get(signature(f)) ?? 0);
  });
  out.section(4, (s) => s.push([1, FUNCREF, 1]).unsigned(count).unsigned(count));
  out.section(7, (s) => {
    s.unsigned(exported.length);
    for (const { name, index } of exported) s.name(name).push([KIND_FUNCTION]).unsigned(index);
  });
  // One active segment that fills the table from slot 0.
  out.section(9, (s) => {
    s.push([1, 0, 0x41, 0, 0x0b]).unsigned(count);
    for (let i = 0; i < count; i++) s.unsigned(i);
  });
  out.section(10, (s) => {
    s.unsigned(count);
    for (const { body } of functions) s.unsigned(body.length).push(body);
  });
  return out.done();
}
