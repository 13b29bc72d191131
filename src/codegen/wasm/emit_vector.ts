// Vector arithmetic of the kernel language to 128-bit instructions, by the form of each operation.
import { invariant } from "../../ir/error.ts";
import type { Stmt, Vec } from "../../ir/kernel.ts";
import type { VecOp } from "../../ir/kernel_ops.ts";
import type { OpcodeName } from "./opcodes.ts";
import type { FunctionWriter } from "./writer.ts";

/** Where vector code finds its operands: the emitter. */
export interface VectorContext {
  readonly f: FunctionWriter;
  /** Whether fused multiply-add is there. */
  readonly relaxed: boolean;
  readonly kernelName: string;
  /** The local of a vector. */
  vec(v: Vec): number;
  /** A local for use within one statement. */
  vecTemp(i: number): number;
}

/** direct: op(a[, b]) · swapped: op(b, a). pmin(x, y) is y < x ? y : x, so that with operands swapped the second of two NaN or zeros wins, as on x86. */
type Form = "direct" | "swapped" | "self" | "shift" | "lanes" | "shuffle" | "own";
interface OperationRow {
  readonly form: Form;
  readonly op: OpcodeName;
  /** Bytes of a and b that a shuffle takes. */
  readonly bytes?: readonly number[];
}
const direct = (op: OpcodeName): OperationRow => ({ form: "direct", op });
const swapped = (op: OpcodeName): OperationRow => ({ form: "swapped", op });
const shift = (op: OpcodeName): OperationRow => ({ form: "shift", op });
const lanes = (op: OpcodeName): OperationRow => ({ form: "lanes", op });
const shuffle = (...picked: readonly number[]): OperationRow => ({
  form: "shuffle",
  op: "i8x16.shuffle",
  bytes: picked.flatMap((lane) => [0, 1, 2, 3].map((byte) => 4 * lane + byte)),
});
/** Has code of its own, below. */
const own = (op: OpcodeName): OperationRow => ({ form: "own", op });

const OPERATIONS: Readonly<Record<VecOp, OperationRow>> = {
  mov: own("local.get"),
  add: direct("f32x4.add"),
  sub: direct("f32x4.sub"),
  mul: direct("f32x4.mul"),
  div: direct("f32x4.div"),
  min: swapped("f32x4.pmin"),
  max: swapped("f32x4.pmax"),
  sqrt: direct("f32x4.sqrt"),
  abs: direct("f32x4.abs"),
  neg: direct("f32x4.neg"),
  floor: direct("f32x4.floor"),
  ceil: direct("f32x4.ceil"),
  round: direct("f32x4.nearest"),
  trunc: direct("f32x4.trunc"),
  fma: own("f32x4.relaxed_madd"),
  fnma: own("f32x4.relaxed_nmadd"),
  dotbf16: own("f32x4.relaxed_madd"), // no target of WebAssembly has it: refused below
  eq: direct("f32x4.eq"),
  ne: direct("f32x4.ne"),
  lt: direct("f32x4.lt"),
  le: direct("f32x4.le"),
  isnan: { form: "self", op: "f32x4.ne" },
  iadd: direct("i32x4.add"),
  isub: direct("i32x4.sub"),
  imul: direct("i32x4.mul"),
  imin: direct("i32x4.min_s"),
  imax: direct("i32x4.max_s"),
  ieq: direct("i32x4.eq"),
  ilt: direct("i32x4.lt_s"),
  iany: own("v128.and"), // for AVX-512: refused below
  ishl: shift("i32x4.shl"),
  ishr: shift("i32x4.shr_s"),
  iushr: shift("i32x4.shr_u"),
  and: direct("v128.and"),
  or: direct("v128.or"),
  xor: direct("v128.xor"),
  andnot: swapped("v128.andnot"), // WebAssembly's is x ∧ ¬y
  select: own("v128.bitselect"),
  f2i: own("i32x4.trunc_sat_f32x4_s"),
  f2iround: own("i32x4.trunc_sat_f32x4_s"),
  i2f: direct("f32x4.convert_i32x4_s"),
  zipl: shuffle(0, 4, 1, 5),
  ziph: shuffle(2, 6, 3, 7),
  pairl: shuffle(0, 1, 4, 5),
  pairh: shuffle(2, 3, 6, 7),
  quadl: own("i8x16.shuffle"), // vectors have one four: refused below
  quadh: own("i8x16.shuffle"),
  lane0: shuffle(0, 0, 0, 0),
  lane1: shuffle(1, 1, 1, 1),
  lane2: shuffle(2, 2, 2, 2),
  lane3: shuffle(3, 3, 3, 3),
  lookup: own("i8x16.swizzle"),
  lookuplow: own("i8x16.swizzle"), // no table is that long: refused below
  lookuphigh: own("i8x16.swizzle"),
  bytes: direct("i8x16.swizzle"),
  sumlanes: lanes("f32x4.add"),
  maxlanes: lanes("f32x4.pmax"),
  minlanes: lanes("f32x4.pmin"),
  mullanes: lanes("f32x4.mul"),
};

/** Bytes of a vector whose four lanes are these words. */
export function constantBytes(words: readonly number[]): number[] {
  return [...new Uint8Array(Int32Array.from(words).buffer)];
}
export const splatConstant = (f: FunctionWriter, word: number): void => f.op("v128.const", ...constantBytes([word, word, word, word]));

const floatWord = new DataView(new ArrayBuffer(4));
/** A constant's 32 bits as a signed integer. */
export function bitsOf(type: "f32" | "i32", value: number): number {
  if (type === "i32") return value | 0;
  floatWord.setFloat32(0, value);
  return floatWord.getInt32(0);
}

export function emitVec(c: VectorContext, s: Extract<Stmt, { k: "vec" }>): void {
  const { f } = c;
  const row = OPERATIONS[s.op];
  const get = (v: Vec | undefined): void => {
    invariant(v, `${c.kernelName}: ${s.op} lacks an operand`);
    f.get(c.vec(v));
  };
  switch (row.form) {
    case "direct":
      get(s.a);
      if (s.b) get(s.b);
      f.op(row.op);
      break;
    case "swapped":
      get(s.b);
      get(s.a);
      f.op(row.op);
      break;
    case "self":
      get(s.a);
      get(s.a);
      f.op(row.op);
      break;
    case "shift":
      shiftBy(f, c.vec(s.a), row.op, s.imm ?? 0);
      break;
    case "shuffle":
      get(s.a);
      get(s.b ?? s.a);
      f.op(row.op, ...row.bytes!); // each row of this form has them
      break;
    case "lanes":
      acrossLanes(c, row.op, c.vec(s.a));
      break;
    case "own":
      ownCode(c, s, get);
      break;
    default:
      row.form satisfies never;
  }
  f.set(c.vec(s.dst));
}

/** WebAssembly takes shift counts modulo 32, x86 shifts everything out. */
function shiftBy(f: FunctionWriter, a: number, op: OpcodeName, count: number): void {
  if (count > 31 && op !== "i32x4.shr_s") {
    splatConstant(f, 0);
    return;
  }
  f.get(a);
  f.i32(Math.min(count, 31));
  f.op(op);
}

const SWAP_HALVES = [8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7];
const SWAP_PAIRS = [4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11];

/** Exchanges halves, then neighbours: the order of x86, the result in every lane. */
function acrossLanes(c: VectorContext, op: OpcodeName, a: number): void {
  const { f } = c;
  const temp = c.vecTemp(0);
  const isSwapped = op === "f32x4.pmin" || op === "f32x4.pmax";
  let from = a;
  for (const pattern of [SWAP_HALVES, SWAP_PAIRS]) {
    if (!isSwapped) f.get(from);
    f.get(from);
    f.get(from);
    f.op("i8x16.shuffle", ...pattern);
    if (isSwapped) f.get(from);
    f.op(op);
    if (pattern === SWAP_PAIRS) return;
    f.set(temp);
    from = temp;
  }
}

function ownCode(c: VectorContext, s: Extract<Stmt, { k: "vec" }>, get: (v: Vec | undefined) => void): void {
  const { f, relaxed } = c;
  switch (s.op) {
    case "mov":
      get(s.a);
      break;
    case "fma":
    case "fnma":
      if (relaxed) {
        get(s.a);
        get(s.b);
        get(s.c);
        f.op(OPERATIONS[s.op].op);
        break;
      }
      get(s.c);
      get(s.a);
      get(s.b);
      f.op("f32x4.mul");
      f.op(s.op === "fma" ? "f32x4.add" : "f32x4.sub");
      break;
    case "select":
      get(s.a);
      get(s.b);
      get(s.c);
      f.op(relaxed ? "i32x4.relaxed_laneselect" : "v128.bitselect");
      break;
    case "f2i":
    case "f2iround":
      toInteger(c, s, get);
      break;
    case "lookup":
      lookup(c, s, get);
      break;
    default:
      invariant(false, `${c.kernelName}: ${s.op} has no code for WebAssembly`);
  }
}

/** Lanes to bytes: swizzle gives zeros for those above 15, so that each byte comes from one of both tables. */
function lookup(c: VectorContext, s: Extract<Stmt, { k: "vec" }>, get: (v: Vec | undefined) => void): void {
  const { f } = c;
  const bytes = c.vecTemp(0);
  get(s.a);
  get(s.c);
  splatConstant(f, 7);
  f.op("v128.and");
  splatConstant(f, 0x04040404);
  f.op("i32x4.mul");
  splatConstant(f, 0x03020100);
  f.op("i32x4.add");
  f.op("local.tee", bytes);
  f.op("i8x16.swizzle");
  get(s.b);
  f.get(bytes);
  splatConstant(f, 0x10101010);
  f.op("v128.xor");
  f.op("i8x16.swizzle");
  f.op("v128.or");
}

const TWO_31 = bitsOf("f32", 2 ** 31);

/** What does not fit gives −2^31, as on x86: WebAssembly would saturate, and give 0 for NaN. */
function toInteger(c: VectorContext, s: Extract<Stmt, { k: "vec" }>, get: (v: Vec | undefined) => void): void {
  const { f } = c;
  const x = c.vecTemp(0);
  get(s.a);
  if (s.op === "f2iround") f.op("f32x4.nearest");
  f.op("local.tee", x);
  f.op("i32x4.trunc_sat_f32x4_s");
  splatConstant(f, -0x80000000);
  f.get(x);
  splatConstant(f, TWO_31);
  f.op("f32x4.lt");
  f.op("v128.bitselect");
}
