// heddle verify: the same inputs through heddle and another engine, and how far the outputs differ.
import { openAnyDevice } from "../../devices/open.ts";
import { HeddleError } from "../../ir/error.ts";
import { type Agreement, BOUNDS, type Bounds, compareOutputs } from "../agreement.ts";
import type { Command, Invocation, Outcome } from "../command.ts";
import { type Divergence, firstDivergence } from "../diverging_node.ts";
import { cpuThreads, deviceName, modelPath, type OpenedModel, withModel } from "../open_model.ts";
import { choiceOption, deviceOptions, flagOption, loadOptions, numberOption, precisionOption } from "../options.ts";
import { randomInputs } from "../random.ts";
import { isInstalled, openRival, RIVALS, type RivalName, runModel } from "../rivals.ts";
import { formatTable } from "../table.ts";
import { short } from "../units.ts";

export const verify: Command = (invocation) => {
  const { options } = invocation;
  const against = choiceOption(options, "against", RIVALS) ?? (isInstalled("onnxruntime") ? "onnxruntime" : "reference");
  const usual = BOUNDS[precisionOption(options) ?? "f32"];
  const bounds = { ...usual, tolerance: numberOption(options, "tolerance", { min: 0 }) ?? usual.tolerance };
  const seed = numberOption(options, "seed", { min: 0, isInteger: true }) ?? 1;
  const load = loadOptions(options, { hasReference: true });
  if (flagOption(options, "nodes") && load.device === "reference")
    throw new HeddleError(
      "bad-argument",
      "--nodes: compares a compiled program's nodes with the reference, and --device reference compiles nothing",
    );
  return withModel(invocation, modelPath(invocation), load, (opened) => compareWith(invocation, opened, { against, bounds, seed }));
};

interface Settings {
  readonly against: RivalName;
  readonly bounds: Bounds;
  readonly seed: number;
}

async function compareWith(invocation: Invocation, opened: OpenedModel, { against, bounds, seed }: Settings): Promise<Outcome> {
  const { path, model, shapes } = opened;
  const inputs = randomInputs(opened.inputs, seed);
  invocation.progress("running heddle");
  const got = await runModel(model, inputs);
  invocation.progress(`running ${against}`);
  const threads = cpuThreads(model, invocation.options);
  const rival = await openRival(against, path, { threads, shapes });
  let outputs: Agreement[];
  try {
    outputs = compareOutputs(got, await rival.bind(inputs).outputs(), bounds);
  } finally {
    await rival.close();
  }
  const ok = outputs.every((o) => o.ok);
  const node = flagOption(invocation.options, "nodes") ? await searchNodes(invocation, opened, seed) : undefined;
  const head = {
    ok: ok && !node,
    model: path,
    device: deviceName(model),
    threads,
    against,
    version: rival.version || undefined,
    seed,
    ...bounds,
  };
  const json = { ...head, outputs, ...(node === undefined ? {} : { firstDivergingNode: node }) };
  return { json, text: () => textOf(json), exitCode: json.ok ? 0 : 1 };
}

/** Compiles once more, with a place of its own for every tensor. */
async function searchNodes(invocation: Invocation, { model, shapes, inputs }: OpenedModel, seed: number): Promise<Divergence | null> {
  const device = await openAnyDevice(deviceOptions(invocation.options));
  try {
    const precision = precisionOption(invocation.options);
    return await firstDivergence(await model.graph(shapes), device, randomInputs(inputs, seed), invocation.progress, precision);
  } finally {
    await device.close();
  }
}

interface Verdict {
  readonly ok: boolean;
  readonly device: string;
  readonly against: string;
  readonly seed: number;
  readonly tolerance: number;
  readonly outputs: readonly Agreement[];
  readonly firstDivergingNode?: Divergence | null;
}

function textOf({ ok, device, against, seed, tolerance, outputs, firstDivergingNode: node }: Verdict): string {
  const number = (x: number | null) => (x === null ? "–" : short(x));
  const rows = outputs.map((o) => [o.name, number(o.maxAbs), number(o.maxRel), o.cosine.toFixed(7), o.ok ? "ok" : (o.reason ?? "differs")]);
  const lines = [
    `${ok ? "ok" : "differs"}: ${device} against ${against}, random inputs of seed ${seed}, tolerance ${tolerance}`,
    "",
    formatTable(["output", "max abs", "max rel", "cosine", ""], rows, { left: [0, 4] }),
  ];
  if (node === null) lines.push("", "every node's result agrees with the reference on the node's own inputs");
  if (node)
    lines.push(
      "",
      `first node that differs: ${node.operator} ${node.node} (${node.detail}); kernels ${node.kernels.join(", ") || "none: runs in JavaScript"}`,
    );
  return lines.join("\n");
}
