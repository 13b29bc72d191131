// Loads, stores and gathers of every memory type and lane count to instructions that touch exactly the bytes asked for.
import type { PointerAddress, Stmt } from "../../ir/kernel.ts";
import { MEMORY_BYTES } from "../../ir/kernel_ops.ts";
import { splatConstant, type VectorContext } from "./emit_vector.ts";
import { floatToBfloat, floatToHalf, halfToFloat } from "./half.ts";
import type { OpcodeName } from "./opcodes.ts";

/** Where memory code finds its operands: the emitter. */
export interface MemoryContext extends VectorContext {
  /** Pushes the address, `more` bytes further, up to a constant that it returns: the instruction's offset. */
  address(a: PointerAddress, more?: number): number;
}

type Load = Extract<Stmt<PointerAddress>, { k: "load" }>;
type Store = Extract<Stmt<PointerAddress>, { k: "store" }>;

/** The two steps from packed bytes or words in the low end to 32-bit lanes. */
const WIDEN: Readonly<Record<"u8" | "i8" | "u16" | "i16" | "f16" | "bf16", readonly OpcodeName[]>> = {
  u8: ["i16x8.extend_low_i8x16_u", "i32x4.extend_low_i16x8_u"],
  i8: ["i16x8.extend_low_i8x16_s", "i32x4.extend_low_i16x8_s"],
  u16: ["i32x4.extend_low_i16x8_u"],
  i16: ["i32x4.extend_low_i16x8_s"],
  f16: ["i32x4.extend_low_i16x8_u"],
  bf16: ["i32x4.extend_low_i16x8_u"],
};

export function emitLoad(c: MemoryContext, s: Load): void {
  const { f } = c;
  if (s.mode === "splat") splat(c, s);
  else if (s.mode === "strided") spread(c, s.from, s.stride, s.lanes);
  else if (s.type === "f32" || s.type === "i32") packed(c, s.from, s.lanes * 4);
  else if (s.type === "i64") loadI64(c, s);
  else if (s.lanes === 4 && MEMORY_BYTES[s.type] === 2) {
    const offset = c.address(s.from);
    f.op(s.type === "i16" ? "v128.load16x4_s" : "v128.load16x4_u", offset);
  } else {
    packed(c, s.from, s.lanes * MEMORY_BYTES[s.type]);
    for (const op of WIDEN[s.type]) f.op(op);
  }
  if (s.mode === "vec") fromHalf(c, s);
  f.set(c.vec(s.dst));
}

function fromHalf(c: MemoryContext, s: Load): void {
  if (s.type === "f16") halfToFloat(c.f, c.vecTemp(0), c.vecTemp(1));
  if (s.type !== "bf16") return;
  c.f.i32(16);
  c.f.op("i32x4.shl");
}

const SCALAR_LOADS = { u8: "i32.load8_u", i8: "i32.load8_s", u16: "i32.load16_u", i16: "i32.load16_s", f16: "i32.load16_u", bf16: "i32.load16_u" } as const; // biome-ignore format: a table

function splat(c: MemoryContext, s: Load): void {
  const { f } = c;
  const offset = c.address(s.from);
  if (s.type === "f32" || s.type === "i32" || s.type === "i64") {
    f.op("v128.load32_splat", offset);
    return;
  }
  f.op(SCALAR_LOADS[s.type], offset);
  f.op("i32x4.splat");
  fromHalf(c, s);
}

/** Pushes exactly `bytes` (at most 16) in the low end of a vector, zeros above. */
function packed(c: MemoryContext, from: PointerAddress, bytes: number): void {
  const { f } = c;
  if (bytes === 16) {
    f.op("v128.load", c.address(from));
    return;
  }
  let at = 0;
  if (bytes >= 8) {
    f.op("v128.load64_zero", c.address(from));
    at = 8;
  } else if (bytes >= 4) {
    f.op("v128.load32_zero", c.address(from));
    at = 4;
  } else splatConstant(f, 0);
  for (const [size, op] of [
    [4, "v128.load32_lane"],
    [2, "v128.load16_lane"],
    [1, "v128.load8_lane"],
  ] as const) {
    if (bytes - at < size) continue;
    const temp = c.vecTemp(0);
    f.set(temp); // the address comes below it on the stack
    const offset = c.address(from, at);
    f.get(temp);
    f.op(op, offset, at / size);
    at += size;
  }
}

/** Pushes words `stride` bytes apart. */
function spread(c: MemoryContext, from: PointerAddress, stride: number, lanes: number): void {
  const { f } = c;
  const temp = c.vecTemp(0);
  f.op("v128.load32_zero", c.address(from));
  for (let i = 1; i < lanes; i++) {
    f.set(temp);
    const offset = c.address(from, i * stride);
    f.get(temp);
    f.op("v128.load32_lane", offset, i);
  }
}

const EVEN_WORDS = [0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27];

/** Low halves of 64-bit integers. */
function loadI64(c: MemoryContext, s: Load): void {
  if (s.lanes < 4) {
    spread(c, s.from, 8, s.lanes);
    return;
  }
  c.f.op("v128.load", c.address(s.from));
  c.f.op("v128.load", c.address(s.from, 16));
  c.f.op("i8x16.shuffle", ...EVEN_WORDS);
}

/** Scalar loads at clamped indices: WebAssembly has no gather. */
export function emitGather(c: MemoryContext, s: Extract<Stmt<PointerAddress>, { k: "gather" }>): void {
  const { f } = c;
  const [offsets, result] = [c.vecTemp(0), c.vecTemp(1)];
  f.get(c.vec(s.index));
  splatConstant(f, 0);
  f.op("i32x4.max_s");
  splatConstant(f, s.count - 1);
  f.op("i32x4.min_s");
  f.i32(2);
  f.op("i32x4.shl");
  f.set(offsets);
  for (let i = 0; i < s.lanes; i++) {
    const offset = c.address(s.from);
    f.get(offsets);
    f.op("i32x4.extract_lane", i);
    f.op("i32.add");
    if (i === 0) f.op("v128.load32_zero", offset);
    else {
      f.get(result);
      f.op("v128.load32_lane", offset, i);
    }
    f.set(result);
  }
  f.get(result);
  f.set(c.vec(s.dst));
}

/** Low bytes, or low words, of all lanes side by side in the low end. */
const PACK_BYTES = [0, 4, 8, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const PACK_WORDS = [0, 1, 4, 5, 8, 9, 12, 13, 0, 0, 0, 0, 0, 0, 0, 0];

export function emitStore(c: MemoryContext, s: Store): void {
  const { f } = c;
  const src = c.vec(s.src);
  if (s.type === "f32" || s.type === "i32") {
    storeBytes(c, s.to, src, s.lanes * 4);
    return;
  }
  if (s.type === "i64") {
    storeI64(c, s, src);
    return;
  }
  const temp = c.vecTemp(0);
  if (s.type === "f16") floatToHalf(f, src, temp, c.vecTemp(1));
  else if (s.type === "bf16") floatToBfloat(f, src, temp);
  else f.get(src);
  f.op("local.tee", temp);
  f.get(temp);
  f.op("i8x16.shuffle", ...(MEMORY_BYTES[s.type] === 1 ? PACK_BYTES : PACK_WORDS));
  f.set(temp);
  storeBytes(c, s.to, temp, s.lanes * MEMORY_BYTES[s.type]);
}

/** Stores exactly the low `bytes` of a vector. */
function storeBytes(c: MemoryContext, to: PointerAddress, src: number, bytes: number, from = 0): void {
  const { f } = c;
  if (bytes === 16) {
    const offset = c.address(to, from);
    f.get(src);
    f.op("v128.store", offset);
    return;
  }
  let at = 0;
  for (const [size, op] of [
    [8, "v128.store64_lane"],
    [4, "v128.store32_lane"],
    [2, "v128.store16_lane"],
    [1, "v128.store8_lane"],
  ] as const) {
    if (bytes - at < size) continue;
    const offset = c.address(to, from + at);
    f.get(src);
    f.op(op, offset, at / size);
    at += size;
  }
}

function storeI64(c: MemoryContext, s: Store, src: number): void {
  const { f } = c;
  const temp = c.vecTemp(0);
  for (const [op, first] of [
    ["i64x2.extend_low_i32x4_s", 0],
    ["i64x2.extend_high_i32x4_s", 2],
  ] as const) {
    const lanes = Math.min(2, s.lanes - first);
    if (lanes <= 0) return;
    f.get(src);
    f.op(op);
    f.set(temp);
    storeBytes(c, s.to, temp, lanes * 8, first * 8);
  }
}
