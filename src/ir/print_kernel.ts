// Kernel → text: loops and branches as blocks, one vector operation a line, the same text for the same kernel.
import type { Affine, BufferAddress, IntVar, Kernel, Stmt, Vec } from "./kernel.ts";

/** Numbers variables and registers in the order in which they appear, each kind from 0. */
class Names {
  private readonly ints = new Map<number, string>();
  private readonly vecs = new Map<number, string>();

  constructor(private readonly kernel: Kernel) {}

  int(v: IntVar): string {
    return named(this.ints, v.id, "i");
  }
  vec(v: Vec): string {
    return named(this.vecs, v.id, "v");
  }
  affine({ base, terms }: Affine): string {
    const parts = terms.map(({ v, c }) => (c === 1 ? this.int(v) : `${c}·${this.int(v)}`));
    if (base !== 0 || parts.length === 0) parts.push(String(base));
    return parts.join(" + ").replaceAll("+ -", "- ");
  }
  at({ buffer, at }: BufferAddress): string {
    return `${this.kernel.params[buffer].name}[${this.affine(at)}]`;
  }
}

function named(names: Map<number, string>, id: number, prefix: string): string {
  const known = names.get(id);
  if (known !== undefined) return known;
  const name = `${prefix}${names.size}`;
  names.set(id, name);
  return name;
}

/** `kernel name (x: read 4096 bytes, …) 16 lanes, 2 threads {` … `}`. Offsets in brackets are bytes. */
export function printKernel(kernel: Kernel): string {
  const names = new Names(kernel);
  const params = kernel.params.map((p) => `${p.name}: ${p.access} ${p.bytes} bytes`).join(", ");
  const threads = kernel.threads === 1 ? "1 thread" : `${kernel.threads} threads`;
  const lines = [`kernel ${kernel.name} (${params}) ${kernel.lanes} lanes, ${threads} {`, ...indented(kernel.body, names), "}"];
  return `${lines.join("\n")}\n`;
}

const indented = (body: readonly Stmt[], names: Names): string[] => body.flatMap((s) => stmtLines(s, names)).map((line) => `  ${line}`);

function stmtLines(s: Stmt, names: Names): string[] {
  switch (s.k) {
    case "for": {
      const step = s.step === 1 ? "" : ` step ${s.step}`;
      const [from, to] = [names.affine(s.from), names.affine(s.to)];
      return [`for ${names.int(s.v)} in ${from} .. ${to}${step} {`, ...indented(s.body, names), "}"];
    }
    case "parallel":
      return [`parallel ${names.int(s.v)} in 0 .. ${s.extent} {`, ...indented(s.body, names), "}"];
    case "if": {
      const otherwise = s.otherwise.length > 0 ? ["} else {", ...indented(s.otherwise, names)] : [];
      return [`if ${names.affine(s.a)} < ${names.affine(s.b)} {`, ...indented(s.body, names), ...otherwise, "}"];
    }
    default:
      return [simpleLine(s, names)];
  }
}

type Simple = Exclude<Stmt, { readonly k: "for" | "parallel" | "if" }>;

function simpleLine(s: Simple, names: Names): string {
  switch (s.k) {
    case "int":
      return `${names.int(s.v)} = ${s.op === "set" ? names.affine(s.a) : `${s.op}(${names.affine(s.a)}, ${names.affine(s.b)})`}`;
    case "loadint": {
      const wrap = s.wrap === 0 ? "" : `, wrap ${s.wrap}`;
      return `${names.int(s.v)} = ${s.type} ${names.at(s.from)} in ${s.v.lo} .. ${s.v.hi}${wrap}`;
    }
    case "const":
      return `${names.vec(s.dst)} = ${s.type} ${Object.is(s.value, -0) ? "-0" : s.value}`;
    case "iota":
      return `${names.vec(s.dst)} = iota ${names.affine(s.a)} step ${s.step}`;
    case "load":
      return `${names.vec(s.dst)} = ${s.mode === "splat" || s.mode === "quad" ? s.mode : "load"} ${s.type} ${names.at(s.from)}${loadShape(s)}`;
    case "gather":
      return `${names.vec(s.dst)} = gather ${names.at(s.from)} at ${names.vec(s.index)} of ${s.count}, ${s.lanes} lanes`;
    case "expand":
      return `${names.vec(s.dst)} = expand ${names.at(s.from)} by bits ${names.at(s.bits)}`;
    case "store":
      return `store ${s.type} ${names.at(s.to)} = ${names.vec(s.src)}, ${s.lanes} lanes`;
    case "vec": {
      const operands = [s.a, s.b, s.c].flatMap((v) => (v ? [names.vec(v)] : []));
      if (s.imm !== undefined) operands.push(String(s.imm));
      return `${names.vec(s.dst)} = ${s.op} ${operands.join(", ")}`;
    }
    case "prefetch":
      return `prefetch ${s.level === 1 ? "" : `level ${s.level} `}${names.at(s.at)}`;
    case "pointer":
      return "pointer"; // made by address lowering only, on kernels that are not printed
    default:
      return s satisfies never;
  }
}

function loadShape({ mode, lanes, stride }: Extract<Stmt, { readonly k: "load" }>): string {
  if (mode === "splat" || mode === "quad") return "";
  return mode === "strided" ? `, ${lanes} lanes ${stride} bytes apart` : `, ${lanes} lanes`;
}
