// What the two languages of SIMT kernels have in common: statements and expressions as C-like text.
import { invariant } from "../ir/error.ts";
import type { Fragment, Reg, Register, RegisterType, SimtKernel, SimtStmt, Source } from "../ir/simt.ts";

type Call = Extract<Reg, { k: "call" }>;
export type FragmentStmt = Extract<
  SimtStmt,
  { k: "fragment" | "loadFragment" | "multiply" | "storeFragment" | "readFragment" | "writeFragment" }
>;

/** Prints one kernel. Each expression is printed where it stands: authors name with `let` what is to be computed once. */
export abstract class SimtPrinter {
  private readonly lines: string[] = [];
  private depth = 1;

  constructor(protected readonly kernel: SimtKernel) {}

  protected abstract declare(v: Register, value: Reg | null, isMutable: boolean): string;
  protected abstract literal(type: RegisterType, value: number): string;
  protected abstract place(of: "thread" | "group", axis: 0 | 1 | 2): string;
  protected abstract call(call: Call, args: readonly string[]): string;
  protected abstract cast(to: RegisterType, from: RegisterType, a: string): string;
  protected abstract bits(to: RegisterType, from: RegisterType, a: string): string;
  protected abstract select(cond: string, a: string, b: string): string;
  protected abstract exchange(a: string, by: number): string;
  /** An element as a register, and a register as an element. */
  protected abstract load(buffer: number, at: string): string;
  protected abstract store(buffer: number, at: string, value: string): string;
  protected abstract loadShared(array: number, at: string): string;
  protected abstract storeShared(array: number, at: string, value: string): string;
  protected abstract barrier(): string;
  protected abstract fragment(s: FragmentStmt): string[];
  /** Elements from memory to declared registers, one by one where the language has nothing wider. */
  protected vectorLoad(to: readonly Register[], from: Source, at: Reg): string[] {
    return to.map((v, i) => this.declare(v, this.element(from, plusOffset(at, i), v.type), false));
  }
  protected vectorStore(values: readonly Reg[], to: Source, at: Reg): string[] {
    return values.map((value, i) => {
      const place = this.text(plusOffset(at, i));
      return to.k === "buffer" ? this.store(to.number, place, this.text(value)) : this.storeShared(to.number, place, this.text(value));
    });
  }
  protected abstract copy(s: Extract<SimtStmt, { k: "copy" }>): string[];
  protected abstract copiesDone(pending: number): string[];
  protected abstract commitCopies(): string[];
  /** Stands before an inner block, and at the end of a block: what names of the block have yet to do. */
  protected leaveBlock(): string[] {
    return [];
  }
  /** Stands before a loop that is to be written out. */
  protected unrolled(): string[] {
    return [];
  }
  /** Opens a loop: for (…) */
  protected abstract forHead(v: string, from: string, to: string, step: number): string;

  protected name(v: Register): string {
    return `v${v.id}`;
  }
  protected fragmentName(f: Fragment): string {
    return `f${f.id}`;
  }

  private element(from: Source, at: Reg, type: RegisterType): Reg {
    return from.k === "buffer" ? { k: "load", type, buffer: from.number, at } : { k: "shared", type, array: from.number, at };
  }

  protected body(): string {
    this.statements(this.kernel.body);
    return this.lines.join("\n");
  }

  text(a: Reg): string {
    switch (a.k) {
      case "num":
        return this.literal(a.type, a.value);
      case "var":
        return this.name(a.v);
      case "place":
        return this.place(a.of, a.axis);
      case "call":
        return this.call(
          a,
          a.args.map((x) => this.text(x)),
        );
      case "cast":
        return this.cast(a.type, a.a.type, this.text(a.a));
      case "bits":
        return this.bits(a.type, a.a.type, this.text(a.a));
      case "select":
        return this.select(this.text(a.cond), this.text(a.a), this.text(a.b));
      case "load":
        return this.load(a.buffer, this.text(a.at));
      case "shared":
        return this.loadShared(a.array, this.text(a.at));
      case "exchange":
        return this.exchange(this.text(a.a), a.by);
      default:
        return a satisfies never;
    }
  }

  private line(...texts: readonly string[]): void {
    for (const text of texts) this.lines.push("  ".repeat(this.depth) + text);
  }
  private block(body: readonly SimtStmt[]): void {
    this.depth++;
    this.statements(body);
    this.line(...this.leaveBlock());
    this.depth--;
  }

  private statements(body: readonly SimtStmt[]): void {
    for (const s of body) this.statement(s);
  }

  private statement(s: SimtStmt): void {
    switch (s.k) {
      case "let":
        this.line(this.declare(s.v, s.value, s.isMutable));
        break;
      case "set":
        this.line(`${this.name(s.v)} = ${this.text(s.value)};`);
        break;
      case "store":
        this.line(this.store(s.buffer, this.text(s.at), this.text(s.value)));
        break;
      case "storeShared":
        this.line(this.storeShared(s.array, this.text(s.at), this.text(s.value)));
        break;
      case "loadVector":
        this.line(...this.vectorLoad(s.to, s.from, s.at));
        break;
      case "storeVector":
        this.line(...this.vectorStore(s.values, s.to, s.at));
        break;
      case "copy":
        this.line(...this.copy(s));
        break;
      case "commitCopies":
        this.line(...this.commitCopies());
        break;
      case "copiesDone":
        this.line(...this.copiesDone(s.pending));
        break;
      case "if":
        this.line(...this.leaveBlock());
        this.line(`if (${this.text(s.cond)}) {`);
        this.block(s.then);
        if (s.otherwise.length > 0) {
          this.line("} else {");
          this.block(s.otherwise);
        }
        this.line("}");
        break;
      case "for":
        invariant(s.step > 0, `${this.kernel.name}: loop step ${s.step}`);
        this.line(...this.leaveBlock());
        if (s.isUnrolled) this.line(...this.unrolled());
        this.line(`${this.forHead(this.name(s.v), this.text(s.from), this.text(s.to), s.step)} {`);
        this.block(s.body);
        this.line("}");
        break;
      case "barrier":
        this.line(this.barrier());
        break;
      case "fragment":
      case "loadFragment":
      case "multiply":
      case "storeFragment":
      case "readFragment":
      case "writeFragment":
        this.line(...this.fragment(s));
        break;
      default:
        s satisfies never;
    }
  }
}

const plusOffset = (at: Reg, by: number): Reg =>
  by === 0 ? at : { k: "call", type: "i32", fn: "add", args: [at, { k: "num", type: "i32", value: by }] };

/** Functions that both languages write as operators. */
export const OPERATORS: Readonly<Partial<Record<Call["fn"], string>>> = {
  add: "+", sub: "-", mul: "*", div: "/", rem: "%", eq: "==", ne: "!=", lt: "<", le: "<=", gt: ">", ge: ">=",
}; // biome-ignore format: a table
