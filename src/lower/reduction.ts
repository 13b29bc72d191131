// Reductions to loops: along the lanes where memory is contiguous there, else one vector a step; several accumulators hide the latency of adding.
import type { DType } from "../ir/dtype.ts";
import type { Expr } from "../ir/expr.ts";
import type { IndexVar } from "../ir/index_expr.ts";
import { type Int, type KernelBuilder, plus, times, type Vec } from "../ir/kernel.ts";
import type { VecOp } from "../ir/kernel_ops.ts";
import { type Block, innerBlock } from "./block.ts";
import { wrapInt } from "./convert.ts";
import type { Emitter } from "./emitter.ts";
import { EXACT_FLOAT } from "./int_math.ts";
import { isIntIndex, isLaneDependent, isLaneIndex } from "./lanes.ts";
import { laneKind, memoryType, typeRange } from "./storage.ts";
import { coefficientOf, freeVars, isAffineIn, walk } from "./walk.ts";

export type Reduce = Extract<Expr, { k: "reduce" }>;

/** Accumulators: an addition takes four cycles, and two can start in each. */
const ACCUMULATORS = 4;

/** How values of one kind are combined. Maxima and minima of floats drop NaN, as the instruction does. */
interface Combiner {
  readonly op: VecOp;
  readonly identity: number;
  /** All lanes of f32 into one. */
  readonly across: VecOp;
}
const FLOAT: Readonly<Record<Reduce["combine"], Combiner>> = {
  add: { op: "add", identity: 0, across: "sumlanes" },
  mul: { op: "mul", identity: 1, across: "mullanes" },
  max: { op: "max", identity: Number.NEGATIVE_INFINITY, across: "maxlanes" },
  min: { op: "min", identity: Number.POSITIVE_INFINITY, across: "minlanes" },
};

function combinerOf(combine: Reduce["combine"], dtype: DType): Combiner {
  const float = FLOAT[combine];
  const kind = laneKind(dtype);
  if (kind === "float") return float;
  // Of masks (0 and -1 as integers) the larger one is where either is set.
  if (kind === "mask") return combine === "max" ? { ...float, op: "or", identity: 0 } : { ...float, op: "and", identity: -1 };
  const [lo, hi] = dtype === "i64" ? typeRange("i32") : typeRange(dtype);
  const int = { add: "iadd", mul: "imul", max: "imax", min: "imin" } as const;
  return { ...float, op: int[combine], identity: combine === "max" ? lo : combine === "min" ? hi : float.identity };
}

/** The accumulated values of one reduction. */
class Accumulators {
  readonly vecs: Vec[];
  private readonly combiner: Combiner;
  private readonly identity: Vec;

  constructor(
    private readonly em: Emitter,
    private readonly e: Reduce,
    count: number,
  ) {
    this.combiner = combinerOf(e.combine, e.dtype);
    const fresh = (): Vec => this.start();
    this.identity = fresh();
    this.vecs = Array.from({ length: count }, fresh);
  }
  private start(): Vec {
    const { k } = this.em;
    return laneKind(this.e.dtype) === "float" ? k.f32(this.combiner.identity) : k.i32(this.combiner.identity);
  }

  /** vecs[i] ← vecs[i] ⊕ body. Only the first `lanes` count. */
  add(i: number, block: Block, lanes: number): void {
    const { em, e } = this;
    const { k } = em;
    const acc = this.vecs[i];
    const { body } = e;
    const isWhole = lanes === k.lanes;
    if (isWhole && e.combine === "add" && laneKind(e.dtype) === "float" && body.k === "call" && body.fn === "mul") {
      k.accumulate(acc, em.value(body.args[0], block), em.value(body.args[1], block));
      return;
    }
    const value = em.value(body, block);
    const counted = isWhole ? value : k.op("select", value, this.identity, k.op("ilt", k.iota(0), k.i32(lanes)));
    k.op(this.combiner.op, acc, counted, undefined, acc);
  }

  /** All of vecs[from, from + count) in one. */
  join(from: number, count: number): Vec {
    const { k } = this.em;
    let level = this.vecs.slice(from, from + count);
    while (level.length > 1) {
      const next: Vec[] = [];
      for (let i = 0; i < level.length; i += 2) next.push(i + 1 < level.length ? k.op(this.combiner.op, level[i], level[i + 1]) : level[i]);
      level = next;
    }
    return level[0];
  }

  /** The lanes in one, in every lane. */
  across(v: Vec): Vec {
    const { k } = this.em;
    switch (laneKind(this.e.dtype)) {
      case "mask":
        return k.op("lt", k.f32(0.5), k.op(this.combiner.across, k.op("and", v, k.f32(1))));
      case "int":
        return k.op("f2i", k.op(this.combiner.across, k.op("i2f", v)));
      default:
        return k.op(this.combiner.across, v);
    }
  }
}

/** One result for each block; they differ only in where the lanes start. */
export function emitReductions(em: Emitter, e: Reduce, blocks: readonly Block[]): Vec[] {
  const { k } = em;
  const inner = new Set(e.vars.map((v) => v.id));
  if (e.vars.some((v) => v.extent === 0)) return blocks.map(() => new Accumulators(em, e, 1).vecs[0]);
  for (const block of blocks) em.hoist(e.body, inner, block);
  const lane = isLaneDependent(blocks[0], e) ? undefined : reducedLane(e);
  const results = lane ? [alongLanes(em, e, lane, blocks[0])] : stepByStep(em, e, blocks);
  const done = results.map((v) => (laneKind(e.dtype) === "int" ? wrapInt(k, e.dtype, v) : v));
  return blocks.map((_, i) => done[i % done.length]);
}

/** Nested loops over vars. */
function loops(
  k: KernelBuilder,
  vars: readonly IndexVar[],
  bound: readonly (readonly [IndexVar, Int])[],
  build: (bound: readonly (readonly [IndexVar, Int])[]) => void,
): void {
  if (vars.length === 0) build(bound);
  else k.loop(0, vars[0].extent, 1, (v) => loops(k, vars.slice(1), [...bound, [vars[0], v]], build));
}

/** One step a value of the reduced variables, in the lanes as they are; several steps at once where few blocks go together. */
function stepByStep(em: Emitter, e: Reduce, blocks: readonly Block[]): Vec[] {
  const { k } = em;
  const last = e.vars[e.vars.length - 1];
  const isUniform = !isLaneDependent(blocks[0], e);
  const used = isUniform ? [blocks[0].shared ?? blocks[0]] : blocks;
  const steps = Math.min(last.extent, Math.max(1, Math.floor(ACCUMULATORS / used.length)));
  const acc = new Accumulators(em, e, steps * used.length);
  const at = (bound: readonly (readonly [IndexVar, Int])[], place: (step: number) => Int, count: number): void => {
    for (let s = 0; s < count; s++) {
      const bind = [...bound, [last, place(s)] as const];
      const shared = used[0].shared ? innerBlock(used[0].shared, bind) : null;
      for (const [i, block] of used.entries()) acc.add(i * steps + s, innerBlock(block, bind, { shared }), k.lanes);
    }
  };
  const whole = Math.floor(last.extent / steps) * steps;
  loops(k, e.vars.slice(0, -1), [], (bound) => {
    k.loop(0, whole, steps, (v) => at(bound, (s) => plus(v, s), steps));
    at(bound, (s) => whole + s, last.extent - whole);
  });
  return used.map((_, i) => acc.join(i * steps, steps));
}

/** The lanes hold consecutive values of `lane`, and are combined at the end. */
function alongLanes(em: Emitter, e: Reduce, lane: IndexVar, outside: Block): Vec {
  const { k } = em;
  const block = outside.shared ?? outside;
  const vectors = Math.ceil(lane.extent / k.lanes);
  const count = Math.min(ACCUMULATORS, vectors);
  const acc = new Accumulators(em, e, count);
  const span = count * k.lanes;
  const add = (shared: Block, start: Int, i: number, lanes: number): void =>
    acc.add(i, innerBlock(shared, [[lane, plus(start, i * k.lanes)]], { lane, lanes, shared }), lanes);
  const whole = Math.floor(lane.extent / span);
  loops(
    k,
    e.vars.filter((v) => v !== lane),
    [],
    (bound) => {
      const base = innerBlock(block, bound);
      k.loop(0, whole, 1, (v) => {
        const shared = innerBlock(base, []);
        for (let i = 0; i < count; i++) add(shared, times(v, span), i, k.lanes);
      });
      const rest = lane.extent - whole * span;
      for (let i = 0; i * k.lanes < rest; i++) add(base, whole * span, i, Math.min(k.lanes, rest - i * k.lanes));
    },
  );
  return acc.across(acc.join(0, count));
}

/** The reduced variable that runs along memory in most loads, if lanes can follow it. */
export function reducedLane(e: Reduce): IndexVar | undefined {
  if (laneKind(e.dtype) === "int") {
    // The lanes are combined as floats.
    const [lo, hi] = typeRange(e.dtype);
    const isExact = (e.combine === "max" || e.combine === "min") && lo > -EXACT_FLOAT && hi < EXACT_FLOAT;
    if (!isExact) return undefined;
  }
  let best: IndexVar | undefined;
  let most = 0;
  for (const v of e.vars) {
    if (!canFollow(e.body, v)) continue;
    const score = contiguousLoads(e.body, v) * Math.min(v.extent, 64);
    if (score > most) [best, most] = [v, score];
  }
  return best;
}

function contiguousLoads(e: Expr, v: IndexVar): number {
  let count = 0;
  walk(e, (p) => {
    if ("k" in p && p.k === "load" && isAffineIn(p.at, v.id) && coefficientOf(p.at, v.id) === 1) count++;
    return true;
  });
  return count;
}

/** Whether all of `e` can be computed with lanes that hold consecutive values of v. */
export function canFollow(e: Expr, v: IndexVar): boolean {
  let can = true;
  walk(e, (p) => {
    if (!("k" in p) || !freeVars(p).has(v.id)) return can;
    if (p.k === "load") {
      const isSimple = isIntIndex(p.at) && isAffineIn(p.at, v.id);
      const type = memoryType(p.dtype);
      const isWide = type === "f32" || type === "i32" || type === "i64";
      can &&= isSimple || (isWide && isLaneIndex(p.at, v.id));
    } else if (p.k === "index" || p.k === "within") can &&= isLaneIndex(p.at, v.id);
    return can;
  });
  return can;
}
