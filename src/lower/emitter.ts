// Emits expressions as vector code: each value once, in the block where it is asked for, what all lanes share in the shared block.
import { HeddleError, invariant } from "../ir/error.ts";
import type { Expr } from "../ir/expr.ts";
import { childrenOf, isAtom, isIndex, type Part } from "../ir/expr_parts.ts";
import type { IndexVar } from "../ir/index_expr.ts";
import { type KernelBuilder, plus, times, type Vec } from "../ir/kernel.ts";
import { MEMORY_BYTES } from "../ir/kernel_ops.ts";
import { type Block, knownValue } from "./block.ts";
import { convert } from "./convert.ts";
import { intFn, maskFn } from "./int_math.ts";
import { intOf, isIntIndex, isLaneDependent, settleAtom, vectorOf } from "./lanes.ts";
import { emitReductions } from "./reduction.ts";
import { fromMemory, laneKind, memoryType } from "./storage.ts";
import { extreme, type VectorFn, vectorFn } from "./vector_math.ts";
import { coefficientOf, dependsOn, isAffineIn, walk } from "./walk.ts";

type Load = Extract<Expr, { k: "load" }>;
type Call = Extract<Expr, { k: "call" }>;

export class Emitter {
  constructor(
    readonly k: KernelBuilder,
    /** Kernel buffer of each input. */
    readonly buffers: readonly number[],
  ) {}

  /** The value in a register: floats, i32, or a mask, by the expression's type. */
  value(e: Expr, block: Block): Vec {
    if (e.k === "const") return this.constant(e);
    if (e.k === "load") {
      const given = block.given.get(e.input);
      if (given) return given;
    }
    const known = knownValue(block, e);
    if (known) return known;
    if (block.shared && !isLaneDependent(block, e)) return this.value(e, block.shared);
    const v = this.compute(e, block);
    block.values.set(e, v);
    return v;
  }

  /** Computes now, in `block`, all that will be needed of `p` in loops over the variables `inner`, and does not depend on them. */
  hoist(p: Part, inner: ReadonlySet<number>, block: Block): void {
    const seen = new Set<Part>();
    const visit = (part: Part, bound: ReadonlySet<number>): void => {
      if (seen.has(part) || ("k" in part && (part.k === "const" || part.k === "var"))) return;
      seen.add(part);
      if (isIndex(part) || dependsOn(part, bound)) {
        const deeper = "k" in part && part.k === "reduce" ? new Set([...bound, ...part.vars.map((v) => v.id)]) : bound;
        for (const child of childrenOf(part)) visit(child, deeper);
      } else if (isAtom(part)) settleAtom(this, part, block);
      else this.value(part, block);
    };
    visit(p, inner);
  }

  /** Computes the reductions in `e` that differ from lane to lane for all blocks together, so that their loops are shared. */
  reduceTogether(e: Expr, blocks: readonly Block[]): void {
    walk(e, (part) => {
      if (!("k" in part) || part.k !== "reduce") return true;
      if (isLaneDependent(blocks[0], part) && !knownValue(blocks[0], part))
        for (const [i, v] of emitReductions(this, part, blocks).entries()) blocks[i].values.set(part, v);
      return false;
    });
  }

  private constant(e: Extract<Expr, { k: "const" }>): Vec {
    const kind = laneKind(e.dtype);
    if (kind === "float") return this.k.f32(e.value);
    return this.k.i32(kind === "mask" ? (e.value ? -1 : 0) : e.value | 0);
  }

  private compute(e: Exclude<Expr, { k: "const" }>, block: Block): Vec {
    const { k } = this;
    switch (e.k) {
      case "load":
        return fromMemory(k, e.dtype, this.load(e, block));
      case "call":
        return this.call(e, block);
      case "cast":
        return convert(k, e.dtype, e.a.dtype, this.value(e.a, block));
      case "index":
        return convert(k, e.dtype, "i32", vectorOf(this, e.at, block));
      case "within": {
        const at = vectorOf(this, e.at, block);
        const above = e.at.lo < e.lo ? k.op("ilt", k.i32(e.lo - 1), at) : undefined;
        const below = e.at.hi >= e.hi ? k.op("ilt", at, k.i32(e.hi)) : undefined;
        if (above && below) return k.op("and", above, below);
        return above ?? below ?? k.i32(-1);
      }
      case "select": {
        const [a, b] = [this.value(e.a, block), this.value(e.b, block)];
        return k.op("select", a, b, this.value(e.cond, block));
      }
      case "reduce":
        return emitReductions(this, e, [block])[0];
      default:
        return e satisfies never;
    }
  }

  private load(e: Load, block: Block): Vec {
    const { k } = this;
    const type = memoryType(e.dtype);
    const bytes = MEMORY_BYTES[type];
    const buffer = this.buffers[e.input];
    const { at } = e;
    const lane: IndexVar | null = isLaneDependent(block, at) ? block.lane : null;
    if (!isIntIndex(at) || (lane && !isAffineIn(at, lane.id))) return this.gather(e, block);
    const place = intOf(this, at, block);
    invariant(place !== null, "an index that is no integer");
    if (!lane) return k.splat(buffer, times(place, bytes), type);
    const step = coefficientOf(at, lane.id);
    if (step === 1) return k.load(buffer, times(place, bytes), block.lanes, type);
    if (bytes === 4) return k.strided(buffer, times(place, bytes), step * 4, block.lanes, type === "i32" ? "i32" : "f32");
    if (bytes === 8) return k.strided(buffer, times(place, bytes), step * 8, block.lanes, "i32");
    return this.oneByOne(block.lanes, (i) => k.splat(buffer, times(plus(place, i * step), bytes), type));
  }

  /** Lane i of each vector. */
  private oneByOne(lanes: number, each: (i: number) => Vec): Vec {
    const { k } = this;
    let all = each(0);
    for (let i = 1; i < lanes; i++) all = k.op("select", each(i), all, k.op("ieq", k.iota(0), k.i32(i)));
    return all;
  }

  private gather(e: Load, block: Block): Vec {
    const { k } = this;
    const bytes = MEMORY_BYTES[memoryType(e.dtype)];
    if (bytes < 4) throw new HeddleError("verify", `internal: ${k.name}: ${e.dtype} elements cannot be gathered`);
    const index = vectorOf(this, e.at, block);
    const count = e.at.hi + 1;
    const lanes = block.lane ? block.lanes : k.lanes;
    if (bytes === 4) return k.gather(this.buffers[e.input], 0, index, count, lanes);
    // The low half of 64 bits.
    return k.gather(this.buffers[e.input], 0, k.op("iadd", index, index), 2 * count, lanes);
  }

  private call(e: Call, block: Block): Vec {
    const { k } = this;
    const operand = e.args[0].dtype;
    const kind = laneKind(operand);
    const [first, second] = e.args;
    if (kind === "float") {
      if (e.fn === "min" || e.fn === "max") return this.extreme(e.fn, first, second, block);
      const fused = this.fused(e, block);
      if (fused) return fused;
      if (e.fn === "and" || e.fn === "or" || e.fn === "xor" || e.fn === "not") return maskFn(k, e.fn, ...this.masks(e, block));
      return vectorFn(k, e.fn as VectorFn, ...this.args(e, block)); // canLower leaves only these
    }
    if (kind === "mask" || e.fn === "and" || e.fn === "or" || e.fn === "xor" || e.fn === "not")
      return maskFn(k, e.fn, ...this.masks(e, block));
    return intFn(k, e.fn, operand, ...this.args(e, block));
  }
  private args(e: Call, block: Block): [Vec, Vec | undefined] {
    const [a, b] = e.args.map((arg) => this.value(arg, block));
    return [a, b];
  }
  private masks(e: Call, block: Block): [Vec, Vec | undefined] {
    const [a, b] = e.args.map((arg) => convert(this.k, "bool", arg.dtype, this.value(arg, block)));
    return [a, b];
  }

  /** NaN where either is NaN. A constant goes first, because the instruction returns its second operand then. */
  private extreme(fn: "min" | "max", a: Expr, b: Expr, block: Block): Vec {
    const [first, second] = b.k === "const" ? [b, a] : [a, b];
    const isNumber = first.k === "const" && !Number.isNaN(first.value);
    return extreme(this.k, fn, this.value(first, block), this.value(second, block), !isNumber);
  }

  /** a·b + c and c − a·b in one instruction, where the product is not needed elsewhere so far. */
  private fused(e: Call, block: Block): Vec | undefined {
    if (e.fn !== "add" && e.fn !== "sub") return undefined;
    const [a, b] = e.args;
    const isFree = (x: Expr): x is Call =>
      x.k === "call" && x.fn === "mul" && !knownValue(block, x) && (block.lane === null || isLaneDependent(block, x));
    const [product, other] = isFree(b) ? [b, a] : e.fn === "add" && isFree(a) ? [a, b] : [undefined, undefined];
    if (!product || !other) return undefined;
    const c = this.value(other, block);
    const [x, y] = this.args(product, block);
    return this.k.op(e.fn === "add" ? "fma" : "fnma", x, y, c);
  }
}
