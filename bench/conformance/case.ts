// One case folder of ONNX's backend tests → a verdict: the model is run on each data set and its outputs are held against the recorded ones.
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { MODEL, type ModelProto, TENSOR } from "../../src/formats/onnx/messages.ts";
import { decodeTensor } from "../../src/formats/onnx/tensor.ts";
import { decode } from "../../src/formats/onnx/wire_reader.ts";
import { HeddleError, loadModel, type ModelValue } from "../../src/index.ts";
import type { TensorData } from "../../src/ir/tensor.ts";
import { compare } from "./compare.ts";

export type Status = "passed" | "failed" | "unsupported" | "crashed";

export interface Verdict {
  readonly status: Status;
  /** The operator under test, or what kind of network. */
  readonly op: string;
  /** Why it did not pass; empty when it did. */
  readonly message: string;
}

export type LoadOptions = NonNullable<Parameters<typeof loadModel>[1]>;

/** Runs one case; a failure of any kind is a verdict. What ends the process is for the caller to see. */
export async function runCase(folder: string, options: LoadOptions): Promise<Verdict> {
  let op = "unreadable";
  try {
    const bytes = readFileSync(join(folder, "model.onnx"));
    const proto = decode(MODEL, bytes);
    op = operatorOf(proto);
    const types = typesOf(proto);
    if (types) return { status: "unsupported", op, message: types };
    const message = await firstDifference(folder, bytes, proto, options);
    return { status: message === "" ? "passed" : "failed", op, message };
  } catch (error) {
    const isRefusal = error instanceof HeddleError && (error.code === "unsupported" || error.code === "dynamic");
    return { status: isRefusal ? "unsupported" : "failed", op, message: error instanceof Error ? error.message : String(error) };
  }
}

/** A case tests one operator; where its definition was expanded into others, or it is a network, that is its kind. */
function operatorOf({ graph }: ModelProto): string {
  const nodes = graph?.node.filter(({ opType }) => opType !== "Constant") ?? [];
  if (new Set(nodes.map(({ opType }) => opType)).size === 1) return nodes[0].opType;
  return nodes.length === 0 ? "Constant" : "(several operators)";
}

/** Inputs and outputs that are no tensors: sequences, optionals, maps. */
function typesOf({ graph }: ModelProto): string | undefined {
  const other = [...(graph?.input ?? []), ...(graph?.output ?? [])].find(({ type }) => type && !type.tensorType);
  const kind = Object.entries(other?.type ?? {}).find(([, value]) => value !== undefined)?.[0];
  return other && `${other.name} is a ${kind?.replace("Type", "")}, no tensor`;
}

async function firstDifference(folder: string, bytes: Uint8Array, proto: ModelProto, options: LoadOptions): Promise<string> {
  const initialized = new Set(proto.graph?.initializer.map(({ name }) => name));
  const given = proto.graph?.input.filter(({ name }) => !initialized.has(name)) ?? [];
  const model = await loadModel(bytes, options);
  try {
    for (const set of readdirSync(folder).filter((name) => name.startsWith("test_data_set_"))) {
      const inputs = readTensors(join(folder, set), "input");
      const names = (inputs.length > given.length ? (proto.graph?.input ?? []) : given).map(({ name }) => name);
      const typed = inputs.map((tensor, i) =>
        retyped(
          tensor,
          model.inputs.find((v) => v.name === names[i]),
        ),
      );
      const outputs = await model.run(Object.fromEntries(typed.map((tensor, i) => [names[i], tensor])));
      for (const [i, wanted] of readTensors(join(folder, set), "output").entries()) {
        const name = proto.graph?.output[i].name ?? "";
        const difference = compare(outputs[name], retyped(wanted, model.outputs[i]));
        if (difference) return `${set}, output ${name}: ${difference}`;
      }
    }
    return "";
  } finally {
    model.dispose();
  }
}

/** The recorded files hold bfloat16 as uint16. A shape that the model itself rules out is no test of heddle. */
function retyped(tensor: TensorData, declared: ModelValue | undefined): TensorData {
  if (
    declared?.shape &&
    (declared.shape.length !== tensor.shape.length || declared.shape.some((d, i) => typeof d === "number" && d !== tensor.shape[i]))
  )
    throw new HeddleError(
      "unsupported",
      `the case contradicts itself: ${declared.name} is declared (${declared.shape}), recorded (${tensor.shape})`,
    );
  const isBf16 = tensor.dtype === "u16" && declared?.dtype === "bf16";
  return isBf16 ? { ...tensor, dtype: "bf16" } : tensor;
}

/** input_0.pb, input_1.pb, … or output_0.pb, … */
function readTensors(folder: string, what: "input" | "output"): TensorData[] {
  const tensors: TensorData[] = [];
  for (let i = 0; existsSync(join(folder, `${what}_${i}.pb`)); i++) {
    tensors.push(decodeTensor(decode(TENSOR, readFileSync(join(folder, `${what}_${i}.pb`))), `${what} ${i}`));
  }
  return tensors;
}
