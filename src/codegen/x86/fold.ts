// Finds statements that need no instruction of their own: a load used once becomes a memory operand, a comparison used once by a select a mask register.
import type { PointerAddress, Stmt, Vec } from "../../ir/kernel.ts";
import type { Census } from "./census.ts";
import { OPERATIONS } from "./operations.ts";

type LoadStmt = Extract<Stmt<PointerAddress>, { k: "load" }>;
type VecStmt = Extract<Stmt<PointerAddress>, { k: "vec" }>;

export interface Fold {
  /** The operand that `load` provides. */
  readonly operand?: "a" | "b" | "c";
  readonly load?: LoadStmt;
  /** The comparison that makes operand c of a select (AVX-512). */
  readonly compare?: VecStmt;
}
export interface Folds {
  readonly into: ReadonlyMap<Stmt<PointerAddress>, Fold>;
  readonly absorbed: ReadonlySet<Stmt<PointerAddress>>;
}

/** How many statements further a load or comparison may move. */
const REACH = 48;

export function planFolds(stmts: readonly Stmt<PointerAddress>[], census: Census, isAvx512: boolean): Folds {
  const into = new Map<Stmt<PointerAddress>, Fold>();
  const absorbed = new Set<Stmt<PointerAddress>>();
  const isPrivate = (v: Vec): boolean => census.vec(v).writes === 1 && census.vec(v).reads === 1;
  if (isAvx512) {
    stmts.forEach((stmt, i) => {
      if (stmt.k !== "vec" || OPERATIONS[stmt.op].form !== "compare" || !isPrivate(stmt.dst)) return;
      const user = onlyUser(stmts, i, stmt.dst, (s) => writesOperand(s, stmt));
      if (user?.op !== "select" || user.c?.id !== stmt.dst.id) return;
      into.set(user, { compare: stmt });
      absorbed.add(stmt);
    });
  }
  const lanes = isAvx512 ? 16 : 8;
  stmts.forEach((stmt, i) => {
    if (stmt.k !== "load" || (stmt.type !== "f32" && stmt.type !== "i32") || !isPrivate(stmt.dst)) return;
    if (!(stmt.mode === "vec" && stmt.lanes === lanes) && !(stmt.mode === "splat" && isAvx512)) return;
    const user = onlyUser(stmts, i, stmt.dst, (s) => isBarrier(s, stmt));
    if (!user || absorbed.has(user) || into.get(user)?.load) return;
    const operand = OPERATIONS[user.op].memory.find((o) => user[o]?.id === stmt.dst.id);
    const row = OPERATIONS[user.op][isAvx512 ? "avx512" : "avx2"];
    if (!operand || (stmt.mode === "splat" && row.broadcast !== 4)) return;
    into.set(user, { ...into.get(user), operand, load: stmt });
    absorbed.add(stmt);
  });
  return { into, absorbed };
}

/** The vector operation after statement i that reads v, if nothing before it is in the way. */
function onlyUser(
  stmts: readonly Stmt<PointerAddress>[],
  i: number,
  v: Vec,
  isInTheWay: (s: Stmt<PointerAddress>) => boolean,
): VecStmt | undefined {
  for (let j = i + 1; j < Math.min(stmts.length, i + REACH); j++) {
    const s = stmts[j];
    if (s.k === "vec" && (s.a.id === v.id || s.b?.id === v.id || s.c?.id === v.id)) return s;
    if (s.k === "for" || s.k === "parallel" || s.k === "if" || isInTheWay(s)) return undefined;
    if ((s.k === "store" && s.src.id === v.id) || (s.k === "gather" && s.index.id === v.id)) return undefined;
  }
  return undefined;
}

const writesOperand = (s: Stmt<PointerAddress>, compare: VecStmt): boolean =>
  "dst" in s && (s.dst.id === compare.a.id || s.dst.id === compare.b?.id);

/** A load moves past neither a store, which might write what it reads, nor a change of its pointer. */
const isBarrier = (s: Stmt<PointerAddress>, load: LoadStmt): boolean =>
  s.k === "store" || (s.k === "pointer" && s.pointer.id === load.from.pointer.id);
