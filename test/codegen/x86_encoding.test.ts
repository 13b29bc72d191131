// Encoder against bytes recorded from the GNU assembler (record_x86_encodings.mjs).
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { Assembler, CC, I, RAX, RBP, RCX, XMM } from "../../src/codegen/x86/assembler.ts";
import { encodingCases } from "./x86_cases.ts";

const hexOf = (build: (asm: Assembler) => void): string => {
  const asm = new Assembler();
  build(asm);
  return Buffer.from(asm.finish()).toString("hex");
};

test("every instruction row and operand form has the bytes of a real assembler", () => {
  const lines = JSON.parse(readFileSync(new URL("./x86_encodings.json", import.meta.url), "utf8")) as string[];
  const expected = new Map(lines.map((line) => line.split(" = ") as [string, string]));
  const cases = encodingCases();
  expect(cases.length).toBeGreaterThan(5000);
  const wrong = cases.filter((c) => expected.get(c.text) !== c.hex).map((c) => `${c.text}: ${c.hex}, wanted ${expected.get(c.text)}`);
  expect(wrong.slice(0, 60)).toEqual([]);
});

test("instructions with their own functions", () => {
  expect(hexOf((a) => a.movabs(12, 0x1122334455667788n))).toBe("49bc8877665544332211");
  expect(hexOf((a) => a.op(I.mov_const32, 9, 0, 7))).toBe("41b907000000");
  expect(hexOf((a) => a.cmov(CC.l, RCX, RBP))).toBe("480f4ccd");
  expect(hexOf((a) => a.setcc(CC.e, 6))).toBe("400f94c6");
  expect(hexOf((a) => a.setcc(CC.ne, a.at(RAX, 4)))).toBe("0f954004");
  expect(hexOf((a) => a.mfence())).toBe("0faef0");
  expect(hexOf((a) => a.vec(I.vmovq, XMM, 1, 0, RAX))).toBe("c4e1f96ec8");
});

test("labels: short and long jumps, both directions", () => {
  const code = hexOf((a) => {
    const end = a.label();
    const start = a.here();
    a.jcc(CC.e, end);
    a.jmp(start);
    a.bind(end);
    a.callLabel(start);
  });
  expect(code).toBe(["0f8402000000", "ebf8", "e8f3ffffff"].join(""));
  const far = hexOf((a) => {
    const start = a.here();
    for (let i = 0; i < 200; i++) a.op(I.ret);
    a.jcc(CC.g, start);
  });
  expect(far.slice(400)).toBe("0f8f32ffffff");
});

test("constants are kept once, aligned, and reached past an immediate", () => {
  const asm = new Assembler();
  asm.vec(I.vpshufd, 0, 1, 0, asm.constant([1, 2, 3, 4]), 0x1b);
  asm.vec(I.vaddps, 0, 1, 1, asm.constant([1, 2, 3, 4]));
  asm.vec(I.vbroadcastss, 0, 2, 0, asm.constant([9]));
  const code = asm.finish();
  expect(code.length).toBe(64 + 16 + 4);
  const view = new DataView(code.buffer);
  expect(view.getInt32(4, true)).toBe(64 - 9);
  expect(view.getInt32(9 + 4, true)).toBe(64 - 17);
});

test("alignment fills with long NOPs", () => {
  expect(
    hexOf((a) => {
      a.op(I.ret);
      a.align(16);
    }),
  ).toBe(`c3${"660f1f840000000000"}${"660f1f440000"}`);
});
