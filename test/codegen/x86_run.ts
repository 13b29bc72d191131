// Runs generated code in this process: every buffer ends at an inaccessible page, so an access past its end is a crash and not a wrong number.
import koffi from "koffi";
import { avx2Target, avx512Target } from "../../src/codegen/x86/target.ts";
import {
  affine,
  type BufferAddress,
  type Kernel,
  type Pointer,
  type PointerAddress,
  type SimdTarget,
  type Stmt,
} from "../../src/ir/kernel.ts";

const PAGE = 4096;
const libc = koffi.load("libc.so.6");
const mmap = libc.func("mmap", "int64", ["int64", "int64", "int", "int", "int", "int64"]);
const munmap = libc.func("munmap", "int", ["int64", "int64"]);
const mprotect = libc.func("mprotect", "int", ["int64", "int64", "int"]);
const SIGNATURE = koffi.proto("void (int64, int64)");

export const TARGETS: readonly SimdTarget[] = [avx512Target(32768, 1 << 20), avx2Target(32768, 1 << 20)];

interface Mapping {
  readonly base: number;
  readonly bytes: number;
}
function map(bytes: number): Mapping {
  const rounded = Math.ceil(bytes / PAGE) * PAGE;
  const base = mmap(0, rounded, 3, 0x22, -1, 0) as number;
  if (base === -1) throw new Error("mmap failed");
  return { base, bytes: rounded };
}

/** A mapping whose last page is inaccessible, and the address at which `bytes` end right before it. */
function guarded(bytes: number): { mapping: Mapping; address: number; view: Uint8Array } {
  const inner = Math.ceil(Math.max(bytes, 1) / PAGE) * PAGE;
  const mapping = map(inner + PAGE);
  mprotect(mapping.base + inner, PAGE, 0);
  const address = mapping.base + inner - bytes;
  return { mapping, address, view: new Uint8Array(koffi.view(mapping.base, inner)).subarray(inner - bytes) };
}

/** Runs code on buffers, once for each thread number in turn; results are copied back into the arrays. */
export function runCode(code: Uint8Array, buffers: readonly Uint8Array[], threads = 1): void {
  const page = map(code.length);
  const places = buffers.map((b) => guarded(b.length));
  const args = map(8 * buffers.length + 8);
  try {
    new Uint8Array(koffi.view(page.base, page.bytes)).set(code);
    mprotect(page.base, page.bytes, 5);
    const addresses = new BigInt64Array(koffi.view(args.base, args.bytes));
    places.forEach((p, i) => {
      p.view.set(buffers[i]);
      addresses[i] = BigInt(p.address);
    });
    for (let tid = 0; tid < threads; tid++) koffi.call(page.base, SIGNATURE, args.base, tid);
    places.forEach((p, i) => {
      buffers[i].set(p.view);
    });
  } finally {
    for (const { base, bytes } of [page, args, ...places.map((p) => p.mapping)]) munmap(base, bytes);
  }
}

type PointerStmt = Stmt<PointerAddress>;

/** Addresses to pointers; how is what the two functions below differ in. */
class Lowering {
  private next = 0;
  /** Of the innermost loop: bumped pointers set before it, and their bumps. */
  private bumped: { readonly loop: Extract<Stmt, { k: "for" }>; readonly before: PointerStmt[]; readonly after: PointerStmt[] } | undefined;

  constructor(private readonly bumps: boolean) {}

  block(stmts: readonly Stmt[]): PointerStmt[] {
    return stmts.flatMap((s) => this.one(s));
  }

  private address(a: BufferAddress, out: PointerStmt[]): PointerAddress {
    const pointer: Pointer = { id: this.next++ };
    const { loop, before, after } = this.bumped ?? {};
    const own = loop && a.at.terms.find((t) => t.v.id === loop.v.id);
    if (loop && own && before && after && !loop.from.terms.length && a.at.terms.length === 1) {
      before.push({ k: "pointer", pointer, from: { buffer: a.buffer }, add: affine(own.c * loop.from.base) });
      after.push({ k: "pointer", pointer, from: { pointer }, add: affine(own.c * loop.step) });
    } else out.push({ k: "pointer", pointer, from: { buffer: a.buffer }, add: { base: 0, terms: a.at.terms } });
    return { pointer, disp: a.at.base };
  }

  private one(s: Stmt): PointerStmt[] {
    const out: PointerStmt[] = [];
    switch (s.k) {
      case "for": {
        const outer = this.bumped;
        const own = { loop: s, before: [], after: [] as PointerStmt[] };
        this.bumped = this.bumps ? own : undefined;
        const body = this.block(s.body);
        this.bumped = outer;
        out.push(...own.before, { ...s, body: [...body, ...own.after] });
        break;
      }
      case "parallel":
        out.push({ ...s, body: this.block(s.body) });
        break;
      case "if":
        out.push({ ...s, body: this.block(s.body), otherwise: this.block(s.otherwise) });
        break;
      case "load":
      case "gather":
      case "loadint": {
        const from = this.address(s.from, out);
        out.push({ ...s, from });
        break;
      }
      case "expand": {
        const [from, bits] = [this.address(s.from, out), this.address(s.bits, out)];
        out.push({ ...s, from, bits });
        break;
      }
      case "store": {
        const to = this.address(s.to, out);
        out.push({ ...s, to });
        break;
      }
      case "prefetch": {
        const at = this.address(s.at, out);
        out.push({ ...s, at });
        break;
      }
      default:
        out.push(s);
    }
    return out;
  }
}

/** One pointer for each address, set right before it is used: the plainest lowering there is. */
export const lowerPlainly = (kernel: Kernel): Kernel<PointerAddress> => ({ ...kernel, body: new Lowering(false).block(kernel.body) });
/** A pointer of its own for each address that moves with its loop, set before it and bumped at its end: many are alive at once. */
export const lowerWithBumps = (kernel: Kernel): Kernel<PointerAddress> => ({ ...kernel, body: new Lowering(true).block(kernel.body) });
