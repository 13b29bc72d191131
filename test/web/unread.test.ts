// What the bundle for browsers leaves out of texts: members of classes that no code names, operators' gradients and samples, what invariants say.
import { describe, expect, test } from "vitest";

interface Unread {
  forRunning(text: string, path: string): Promise<string>;
  withoutUnnamed(texts: ReadonlyMap<string, string>, isPublic: (text: string, place: number) => boolean): Promise<Map<string, string>>;
}
/** The project's scripts are JavaScript: their types are told here. */
const { forRunning, withoutUnnamed } = (await import(new URL("../../scripts/unread.mjs", import.meta.url).href)) as Unread;

/** Methods that stay, of one class in a file and code in another. */
async function kept(members: string, code: string, isPublic = false): Promise<string[]> {
  const texts = new Map([
    ["class.js", `class Box { constructor() { this.open(); } open() {} ${members} }`],
    ["code.js", code],
  ]);
  const left = (await withoutUnnamed(texts, () => isPublic)).get("class.js") ?? "";
  expect(() => new Function(left)).not.toThrow();
  return [...left.matchAll(/(\w+)\(\w*\) \{/g)].flatMap(([, name]) => (name === "constructor" || name === "open" ? [] : [name]));
}

describe("members that nothing names", () => {
  test.each([
    ["a method that is called", "a() {}", "box.a()", ["a"]],
    ["one that a text names", "a() {}", "box['a']()", ["a"]],
    ["one that a template names", "a() {}", "box[`its a`]()", ["a"]],
    ["one that is taken apart", "a() {}", "const { a } = box", ["a"]],
    ["an accessor", "get a() { return 1; } set a(v) {} get b() { return 2; }", "box.a", ["a", "a"]],
    ["what a method calls that is called", "c() {} b() { this.c(); } a() { this.b(); }", "box.a()", ["c", "b", "a"]],
    ["what a function calls that is called", "a() {}", "function f(box) { box.a(); }\nf(box)", ["a"]],
    ["what the language calls", "toString() {} next() {} a() {}", "", ["toString", "next"]],
  ])("stay: %s", async (_, members, code, names) => expect(await kept(members, code)).toEqual(names));

  test.each([
    ["what nothing calls", "a() {}", "box.open()"],
    ["what only itself and its namesakes call", "a() { this.inner.a(); }", "class Inner { a() {} }"],
    ["what two call in a circle", "a() { this.b(); } b() { this.a(); }", ""],
    ["what only a function calls that nothing calls", "a() {}", "function f(box) { box.a(); }"],
    ["an accessor", "get a() { return 1; }", ""],
  ])("go: %s", async (_, members, code) => expect(await kept(members, code)).toEqual([]));

  test("classes that callers are handed stay whole", async () => expect(await kept("a() {} b() {}", "", true)).toEqual(["a", "b"]));
});

describe("what running does not read", () => {
  const operator = 'export const op = { name: "Sqrt", vjp: (y) => [y], infer: (x) => x, samples: shapes };';
  const left = async (text: string, path = "/src/ops/math.ts") => (await forRunning(text, path)).replaceAll(/\s+/g, " ").trim();

  test("gradients and samples of operators", async () =>
    expect(await left(operator)).toBe('export const op = { name: "Sqrt", infer: (x) => x, };'));

  test("constants that only samples need", async () => {
    const text = `const five = 5; const shapes = [f32(3, five)]; const other = 3; export const last = other; ${operator}`;
    expect(await left(text)).toBe('const other = 3; export const last = other; export const op = { name: "Sqrt", infer: (x) => x, };');
  });

  test("samples that stand in where none are given", async () =>
    expect(await left("const shapes = [f32(3)]; export function unary({ samples = shapes, result = 1 }) {}")).toBe(
      "export function unary({ samples, result = 1 }) {}",
    ));

  test("members of the same names elsewhere stay", async () => expect(await left(operator, "/src/run/step.ts")).toBe(operator));

  test("what invariants say", async () => {
    const text = 'invariant(a < f("b", 1), `a is too large`); other(a, "b");';
    expect(await left(text, "/src/run/step.ts")).toBe('invariant(a < f("b", 1)); other(a, "b");');
  });

  test("what is for CUDA, and for devices that multiply fragments", async () => {
    const text = 'const a = b.target.name === "cuda" && c; if (name !== "cuda" || target.fragments.includes("f16")) d("cuda");';
    expect(await left(text, "/src/run/step.ts")).toBe('const a = false && c; if (true || false) d("cuda");');
  });
});
