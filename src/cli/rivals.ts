// Engines that heddle is compared with, and heddle itself, behind one interface.
import { readFile } from "node:fs/promises";
import type { DeviceOptions } from "../devices/open.ts";
import type { DType, TypedArray } from "../ir/dtype.ts";
import { HeddleError } from "../ir/error.ts";
import type { TensorData } from "../ir/tensor.ts";
import { loadModel, type Model, type Shapes, type Tensors } from "../model.ts";
import { heddleVersion, importPackage, packageVersion } from "./packages.ts";
import { evaluateInTurns } from "./reference.ts";

export const RIVALS = ["onnxruntime", "onnxruntime-web", "wasm", "reference"] as const;
export type RivalName = (typeof RIVALS)[number];

/** npm's name of what a rival needs. */
export const RIVAL_PACKAGES: Partial<Record<RivalName, string>> = { onnxruntime: "onnxruntime-node", "onnxruntime-web": "onnxruntime-web" };

/** A network loaded in some engine. */
export interface Engine {
  readonly name: string;
  readonly version: string;
  /** Converts the inputs once; what is returned runs the network on them. */
  bind(inputs: Tensors): BoundRun;
  close(): Promise<void>;
}

export interface BoundRun {
  run(): Promise<unknown>;
  outputs(): Promise<Tensors>;
}

export interface RivalOptions {
  readonly threads: number;
  readonly shapes?: Shapes;
}

/** Whether the rival's package is installed; rivals without one are always there. */
export const isInstalled = (rival: RivalName): boolean => {
  const name = RIVAL_PACKAGES[rival];
  return name === undefined || packageVersion(name) !== null;
};

/** A model file or its bytes in a rival. Throws HeddleError("missing") where the rival is not installed. */
export function openRival(rival: RivalName, source: string | Uint8Array, options: RivalOptions): Promise<Engine> {
  switch (rival) {
    case "onnxruntime":
      return openOnnxruntime("onnxruntime-node", source, options);
    case "onnxruntime-web":
      return openOnnxruntime("onnxruntime-web", source, options);
    case "wasm":
      return openHeddle(source, { device: "wasm", ...options });
    case "reference":
      return openHeddle(source, { device: "reference", ...options });
    default:
      return rival satisfies never;
  }
}

export async function openHeddle(source: string | Uint8Array, options: DeviceOptions & { readonly shapes?: Shapes }): Promise<Engine> {
  const model = await loadModel(source, options);
  return {
    name: "heddle",
    version: heddleVersion(),
    bind(inputs) {
      const run = () => runModel(model, inputs);
      return { run, outputs: run };
    },
    async close() {
      model.dispose();
    },
  };
}

/** Runs a model; on the reference device, which takes long, in steps that Ctrl-C gets through. */
export async function runModel(model: Model, inputs: Tensors): Promise<Record<string, TensorData>> {
  if (model.device) return model.run(inputs);
  const shapes = Object.fromEntries(Object.entries(inputs).map(([name, { shape }]) => [name, shape]));
  return evaluateInTurns(await model.graph(shapes), inputs);
}

/** What is used of onnxruntime, described here so that this compiles without the package. */
interface Onnxruntime {
  readonly Tensor: new (type: string, data: TypedArray, shape: readonly number[]) => OrtTensor;
  readonly InferenceSession: { create(model: string | Uint8Array, options: object): Promise<OrtSession> };
  readonly env: { readonly wasm: { numThreads?: number }; logLevel?: string };
}
interface OrtTensor {
  readonly type: string;
  readonly dims: readonly number[];
  readonly data: TypedArray;
}
interface OrtSession {
  run(feeds: Record<string, OrtTensor>): Promise<Record<string, OrtTensor>>;
  release(): Promise<void>;
}

const ORT_TYPES: Partial<Record<DType, string>> = {
  f32: "float32", f64: "float64", f16: "float16", i8: "int8", u8: "uint8", i16: "int16", u16: "uint16",
  i32: "int32", u32: "uint32", i64: "int64", u64: "uint64", bool: "bool",
}; // biome-ignore format: a table

/** The settings that onnxruntime recommends for speed on a CPU. */
export const onnxruntimeSettings = (threads: number): Readonly<Record<string, unknown>> => ({
  intraOpNumThreads: threads,
  interOpNumThreads: 1,
  executionMode: "sequential",
  graphOptimizationLevel: "all",
  logSeverityLevel: 3,
});

async function openOnnxruntime(name: string, source: string | Uint8Array, { threads }: RivalOptions): Promise<Engine> {
  const ort = await importPackage<Onnxruntime>(name);
  const isWeb = name === "onnxruntime-web";
  if (isWeb) {
    ort.env.wasm.numThreads = threads;
    ort.env.logLevel = "error";
  }
  const model = isWeb && typeof source === "string" ? await readFile(source) : source;
  const session = await tell(name, () => ort.InferenceSession.create(model, onnxruntimeSettings(threads)));
  return {
    name,
    version: packageVersion(name) ?? "",
    bind(inputs) {
      const feeds = Object.fromEntries(Object.entries(inputs).map(([input, tensor]) => [input, toOrt(ort, name, tensor)]));
      const run = () => session.run(feeds);
      return {
        run,
        async outputs() {
          const outputs = await tell(name, run);
          return Object.fromEntries(Object.entries(outputs).map(([output, tensor]) => [output, fromOrt(name, tensor)]));
        },
      };
    },
    close: () => session.release(),
  };
}

/** Makes one line of what onnxruntime throws. */
async function tell<T>(name: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    const why = (cause instanceof Error ? cause.message : String(cause)).replace(/\s+/g, " ").trim();
    throw new HeddleError("unsupported", `${name} cannot run this model: ${why}`, { cause });
  }
}

function toOrt(ort: Onnxruntime, name: string, { dtype, shape, data }: TensorData): OrtTensor {
  const type = ORT_TYPES[dtype];
  if (!type) throw new HeddleError("unsupported", `${name}: its JavaScript interface takes no ${dtype} tensors`);
  return new ort.Tensor(type, data, shape);
}

function fromOrt(name: string, { type, dims, data }: OrtTensor): TensorData {
  const dtype = (Object.keys(ORT_TYPES) as DType[]).find((t) => ORT_TYPES[t] === type);
  if (!dtype) throw new HeddleError("unsupported", `${name}: gave a tensor of type ${type}, which heddle does not have`);
  // Newer engines hold float16 in a Float16Array: the same bits.
  const bits = dtype === "f16" ? new Uint16Array(data.buffer, data.byteOffset, data.length) : data;
  return { dtype, shape: [...dims], data: bits };
}
