// Records what the GNU assembler makes of every case in x86_cases.ts: `node test/codegen/record_x86_encodings.mjs` (needs binutils).
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const dir = mkdtempSync(join(tmpdir(), "encodings-"));
try {
  const bundle = join(dir, "cases.mjs");
  await build({ entryPoints: [join(here, "x86_cases.ts")], bundle: true, platform: "node", format: "esm", outfile: bundle });
  const { encodingCases } = await import(pathToFileURL(bundle).href);
  const cases = encodingCases();
  // Each instruction starts a 16-byte slot; its length goes to another section.
  const source = [
    ".intel_syntax noprefix",
    ...cases.flatMap(({ text }, i) => [".text", ".balign 16, 0x90", `a${i}: ${text}`, `b${i}:`, ".data", `.byte b${i}-a${i}`]),
  ];
  writeFileSync(join(dir, "all.s"), `${source.join("\n")}\n`);
  execFileSync("as", ["-o", join(dir, "all.o"), join(dir, "all.s")], { stdio: "inherit" });
  for (const section of ["text", "data"])
    execFileSync("objcopy", ["-O", "binary", "-j", `.${section}`, join(dir, "all.o"), join(dir, section)]);
  const code = readFileSync(join(dir, "text"));
  const lengths = readFileSync(join(dir, "data"));
  let at = 0;
  const recorded = cases.map(({ text }, i) => {
    const hex = code.subarray(at, at + lengths[i]).toString("hex");
    at = (at + lengths[i] + 15) & ~15;
    return `${text} = ${hex}`;
  });
  writeFileSync(join(here, "x86_encodings.json"), `${JSON.stringify([...new Set(recorded)], null, 0).replaceAll('","', '",\n"')}\n`);
  console.log(`${recorded.length} encodings`);
} finally {
  rmSync(dir, { recursive: true });
}
