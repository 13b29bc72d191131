// Lowers a fused group to one kernel: the readers of its nodes composed, the outputs as loop nests, each nest shared out over the threads.
import { DTYPES } from "../ir/dtype.ts";
import { HeddleError, invariant } from "../ir/error.ts";
import { loadReader } from "../ir/expr_interpreter.ts";
import type { Graph, Reader, TensorType } from "../ir/graph.ts";
import { type IndexVar, linearIndex, newVar, varIndex } from "../ir/index_expr.ts";
import { type Int, type Kernel, KernelBuilder, plus, type SimdTarget, times } from "../ir/kernel.ts";
import { elementCount, stridesOf } from "../ir/tensor.ts";
import { type Block, innerBlock, rootBlock } from "./block.ts";
import { composeReaders } from "./compose.ts";
import { Emitter } from "./emitter.ts";
import { intOf } from "./lanes.ts";
import { buildNests } from "./nest.ts";
import { canLower } from "./scalar.ts";
import { fairUnroll, reducesInLanes, reducesOutside, type Schedule, type Scheduled, scheduleNest, unrollOf } from "./schedule.ts";
import { storeValue } from "./storage.ts";

/** Reads an input of a group. */
type Leaf = (input: number, type: TensorType) => Reader;
const plainLeaf: Leaf = (input, type) => loadReader(type, input);

/** Readers of the group's outputs over its inputs as buffers. Throws HeddleError("unsupported") where it has none. */
const groupReaders = (body: Graph, leaf = plainLeaf): Reader[] => composeReaders(body, leaf);

/** Whether `lowerGroup` can make a kernel of it. */
export function canLowerGroup(body: Graph, leaf?: Leaf): boolean {
  try {
    return groupReaders(body, leaf).every(({ type, at }) => canLower(at(type.shape.map((d) => varIndex(newVar(d))))));
  } catch (e) {
    if (e instanceof HeddleError && (e.code === "unsupported" || e.code === "dynamic")) return false;
    throw e;
  }
}

/** Parameters: one buffer for each of body.inputs, then the outputs. `canLowerGroup(body)` must hold. */
export function lowerGroup(name: string, body: Graph, target: SimdTarget, threads: number): Kernel {
  return lowerReaders(
    name,
    groupReaders(body),
    body.inputs.map((v) => elementCount(v.type.shape) * DTYPES[v.type.dtype].bytes),
    target,
    threads,
  );
}

/** The kernel that computes what the readers read, all of one shape. Parameters: buffers of `inputBytes` for their inputs, then the outputs. */
export function lowerReaders(
  name: string,
  readers: readonly Reader[],
  inputBytes: readonly number[],
  target: SimdTarget,
  threads: number,
): Kernel {
  const { shape } = readers[0].type;
  const k = new KernelBuilder(name, target, threads);
  const buffers = inputBytes.map((bytes, i) => k.buffer(`in${i}`, bytes, "read"));
  const count = elementCount(shape);
  const outputs = readers.map(({ type }, i) => k.buffer(i === 0 ? "out" : `out${i}`, count * DTYPES[type.dtype].bytes, "write"));
  if (count === 0) return k.build();
  const axes = shape.map((d) => newVar(d));
  const index = axes.map(varIndex);
  const exprs = readers.map((reader) => {
    const expr = reader.at(index);
    const { dtype } = reader.type;
    invariant(expr.dtype === dtype, `${name}: expression of type ${expr.dtype} for an output of type ${dtype}`);
    return expr;
  });
  const [expr, ...also] = exprs;
  const nests = buildNests(expr, linearIndex(index, stridesOf(shape)), axes, k.lanes, also);
  for (const nest of nests) {
    for (const schedule of scheduleNest(nest, k.lanes, threads)) new NestEmitter(new Emitter(k, buffers), outputs).emit(schedule);
  }
  return k.build();
}

/** Shares that each thread gets at least, where there is a choice: one may be faster than another. */
const SHARES = 8;

const idsOf = (vars: readonly IndexVar[]): ReadonlySet<number> => new Set(vars.map((v) => v.id));
const extentOf = (vars: readonly IndexVar[]): number => vars.reduce((n, v) => n * v.extent, 1);

class NestEmitter {
  private readonly k: KernelBuilder;

  constructor(
    private readonly em: Emitter,
    private readonly outputs: readonly number[],
  ) {
    this.k = em.k;
  }

  emit({ outer, pieces }: Schedule): void {
    const { threads, lanes } = this.k;
    const root = rootBlock(lanes);
    const [only] = pieces;
    const isScarce = threads > 1 && extentOf(outer) < 4 * threads && only.lane && only.lane.extent >= 2 * lanes * threads;
    if (only.lane && pieces.length === 1 && (outer.length === 0 || (isScarce && !reducesOutside(only)))) {
      // Too few outer iterations to share out: the vectors are shared out instead.
      const inner = [only.lane, ...outer, ...only.inner.filter((v) => v !== only.lane)];
      this.hoist(root, [only], inner);
      this.lanesInParallel(root, { ...only, inner });
      return;
    }
    const loops = outer.length > 0 ? outer : only.inner;
    const rest = outer.length > 0 ? pieces : [{ ...only, inner: [] }];
    if (loops.length === 0) {
      this.k.parallel(1, () => this.inner(rest[0], rest[0].inner, [root]));
      return;
    }
    this.outerLoops(root, loops, rest);
  }

  /** The first loops become one that is shared out, the others follow inside. */
  private outerLoops(root: Block, loops: readonly IndexVar[], pieces: readonly Scheduled[]): void {
    const { k } = this;
    let count = 1;
    while (count < loops.length && k.threads > 1 && extentOf(loops.slice(0, count)) < SHARES * k.threads) count++;
    const [shared, others] = [loops.slice(0, count), loops.slice(count)];
    const inner = pieces.flatMap((p) => p.inner);
    this.hoist(root, pieces, [...loops, ...inner]);
    k.parallel(extentOf(shared), (p) => {
      const bound: (readonly [IndexVar, Int])[] = [];
      let rest: Int = p;
      for (let i = count - 1; i > 0; i--) {
        bound.push([shared[i], k.mod(rest, shared[i].extent)]);
        rest = k.div(rest, shared[i].extent);
      }
      bound.push([shared[0], rest]);
      this.nested(innerBlock(root, bound), others, pieces);
    });
  }

  private nested(block: Block, loops: readonly IndexVar[], pieces: readonly Scheduled[]): void {
    this.hoist(block, pieces, [...loops, ...pieces.flatMap((p) => p.inner)]);
    const [v, ...others] = loops;
    if (v) this.k.loop(0, v.extent, 1, (at) => this.nested(innerBlock(block, [[v, at]]), others, pieces));
    else for (const piece of pieces) this.inner(piece, piece.inner, [block]);
  }

  /** What does not depend on the loops that follow is computed before them. */
  private hoist(block: Block, pieces: readonly Scheduled[], inner: readonly IndexVar[]): void {
    for (const { expr, out, also } of pieces) for (const part of [expr, out, ...also]) this.em.hoist(part, idsOf(inner), block);
  }

  /** The loops of one piece; the blocks are neighbouring vectors once the lanes are there. */
  private inner(piece: Scheduled, loops: readonly IndexVar[], blocks: readonly Block[]): void {
    const [v, ...others] = loops;
    if (!v) {
      this.store(piece, blocks);
      return;
    }
    for (const block of blocks) this.hoist(block, [piece], loops);
    if (v === piece.lane) this.lanes(piece, others, blocks[0]);
    else {
      this.k.loop(0, v.extent, 1, (at) => {
        const shared = blocks[0].shared && innerBlock(blocks[0].shared, [[v, at]]);
        this.inner(
          piece,
          others,
          blocks.map((b) => innerBlock(b, [[v, at]], { shared })),
        );
      });
    }
  }

  private store({ expr, out, also }: Scheduled, blocks: readonly Block[]): void {
    const { em, k } = this;
    const exprs = [expr, ...also];
    for (const e of exprs) em.reduceTogether(e, blocks);
    for (const block of blocks) {
      const at = intOf(em, out, block);
      invariant(at !== null, "the output's index is data");
      const values = exprs.map((e) => em.value(e, block)); // all before any is stored: outputs may lie where inputs were
      for (const [i, { dtype }] of exprs.entries())
        storeValue(k, dtype, values[i], this.outputs[i], times(at, DTYPES[dtype].bytes), block.lane ? block.lanes : 1);
    }
  }

  /** All vectors of the lane variable, a few at a time. */
  private lanes(piece: Scheduled, others: readonly IndexVar[], block: Block): void {
    const { k } = this;
    const lane = piece.lane!; // asked for pieces with lanes only
    const vectors = Math.ceil(lane.extent / k.lanes);
    const most = unrollOf(piece, k.target);
    const together = most > 1 && vectors <= 2 * most ? vectors : most;
    const span = together * k.lanes;
    const whole = Math.floor(lane.extent / span);
    k.loop(0, whole, 1, (v) => this.vectors(piece, others, block, times(v, span), span));
    this.vectors(piece, others, block, whole * span, lane.extent - whole * span);
  }

  /** `count` values of the lane variable from `start` on. */
  private vectors(piece: Scheduled, others: readonly IndexVar[], block: Block, start: Int, count: number): void {
    if (count === 0) return;
    const { k } = this;
    const lane = piece.lane!; // asked for pieces with lanes only
    const shared = innerBlock(block, []);
    const blocks: Block[] = [];
    for (let at = 0; at < count; at += k.lanes) {
      const lanes = Math.min(k.lanes, count - at);
      blocks.push(innerBlock(shared, [[lane, plus(start, at)]], { lane, lanes, shared }));
    }
    this.inner(piece, others, blocks);
  }

  private lanesInParallel(block: Block, piece: Scheduled): void {
    const { k } = this;
    const lane = piece.lane!; // asked for pieces with lanes only
    const others = piece.inner.filter((v) => v !== lane);
    const vectors = Math.ceil(lane.extent / k.lanes);
    const span = fairUnroll(vectors, unrollOf(piece, k.target), k.threads) * k.lanes;
    const whole = Math.floor(lane.extent / span);
    const rest = lane.extent - whole * span;
    const isHeavy = reducesInLanes(piece.expr, lane) && whole > 0 && rest > 0;
    if (!isHeavy) {
      k.parallel(whole, (v) => this.vectors(piece, others, block, times(v, span), span));
      if (rest > 0) k.parallel(1, () => this.vectors(piece, others, block, whole * span, rest));
      return;
    }
    // The rest is a share like the others, so that no thread gets it on top of its own.
    k.parallel(whole + 1, (v) => {
      const start = times(k.min(v, whole - 1), span);
      k.when(
        v,
        whole,
        () => this.vectors(piece, others, block, start, span),
        () => this.vectors(piece, others, block, whole * span, rest),
      );
    });
  }
}
