// float16 and bfloat16 to and from float32 lanes by integer arithmetic, as WebAssembly has no instructions for them.
import { bitsOf, splatConstant } from "./emit_vector.ts";
import type { OpcodeName } from "./opcodes.ts";
import type { FunctionWriter } from "./writer.ts";

/** A small stack calculator: `vec` pushes a local, `word` a constant in every lane. */
interface Pen {
  vec(...locals: readonly number[]): Pen;
  word(bits: number): Pen;
  op(...names: readonly OpcodeName[]): Pen;
  shift(name: "i32x4.shl" | "i32x4.shr_u", by: number): Pen;
  to(local: number): Pen;
  tee(local: number): Pen;
}
function penOf(f: FunctionWriter): Pen {
  const pen: Pen = {
    vec(...locals) {
      for (const l of locals) f.get(l);
      return pen;
    },
    word(bits) {
      splatConstant(f, bits);
      return pen;
    },
    op(...names) {
      for (const name of names) f.op(name);
      return pen;
    },
    shift(name, by) {
      f.i32(by);
      f.op(name);
      return pen;
    },
    to(local) {
      f.set(local);
      return pen;
    },
    tee(local) {
      f.op("local.tee", local);
      return pen;
    },
  };
  return pen;
}

/** 2^112: moves the exponent of a half to where float32 has it, denormals included. */
const REBIAS = bitsOf("f32", 2 ** 112);
const INFINITY = 0x7f800000;

/** Half bits in the low 16 of each lane, on the stack → float32. */
export function halfToFloat(f: FunctionWriter, bits: number, size: number): void {
  penOf(f)
    .tee(bits)
    .word(0x7fff)
    .op("v128.and")
    .shift("i32x4.shl", 13)
    .tee(size)
    .word(REBIAS)
    .op("f32x4.mul")
    // Infinity and NaN: the largest exponent stays the largest.
    .vec(size)
    .word((0x7c00 << 13) - 1)
    .op("i32x4.gt_s")
    .word(INFINITY)
    .op("v128.and", "v128.or")
    .vec(bits)
    .word(0x8000)
    .op("v128.and")
    .shift("i32x4.shl", 16)
    .op("v128.or");
}

const SMALLEST_NORMAL = bitsOf("f32", 2 ** -14);
const HALF = bitsOf("f32", 0.5);
const TOO_LARGE = bitsOf("f32", 65536);

/** float32 in a local → half bits in the low 16 of each lane, on the stack, to nearest even. */
export function floatToHalf(f: FunctionWriter, src: number, size: number, result: number): void {
  penOf(f)
    .vec(src)
    .word(0x7fffffff)
    .op("v128.and")
    .to(size)
    // Normal: new exponent, half a unit (less one, plus the lowest bit that stays) added, the rest cut off.
    .vec(size)
    .shift("i32x4.shr_u", 13)
    .word(1)
    .op("v128.and")
    .vec(size)
    .op("i32x4.add")
    .word(0xfff - (112 << 23))
    .op("i32x4.add")
    .shift("i32x4.shr_u", 13)
    // Denormal: adding 0.5 rounds at 2^-24, the unit of denormal halves.
    .vec(size)
    .word(HALF)
    .op("f32x4.add")
    .word(HALF)
    .op("i32x4.sub")
    .vec(size)
    .word(SMALLEST_NORMAL - 1)
    .op("i32x4.gt_s", "v128.bitselect")
    .to(result)
    // Too large: infinity. NaN: a quiet one.
    .vec(result)
    .word(0x7c00)
    .word(TOO_LARGE)
    .vec(size)
    .op("i32x4.gt_s", "v128.bitselect")
    .to(result)
    .word(0x7e00)
    .vec(result)
    .vec(size)
    .word(INFINITY)
    .op("i32x4.gt_s", "v128.bitselect")
    .vec(src)
    .shift("i32x4.shr_u", 16)
    .word(0x8000)
    .op("v128.and", "v128.or");
}

/** float32 in a local → bfloat16 bits in the low 16 of each lane, on the stack, to nearest even; NaN stays a quiet NaN. */
export function floatToBfloat(f: FunctionWriter, src: number, high: number): void {
  penOf(f)
    .vec(src)
    .shift("i32x4.shr_u", 16)
    .tee(high)
    .word(0x40)
    .op("v128.or")
    .vec(high)
    .word(1)
    .op("v128.and")
    .word(0x7fff)
    .op("i32x4.add")
    .vec(src)
    .op("i32x4.add")
    .shift("i32x4.shr_u", 16)
    .vec(src, src)
    .op("f32x4.ne", "v128.bitselect");
}
