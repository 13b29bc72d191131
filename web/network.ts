// A dropped ONNX file → a form for the sizes it leaves open, its outputs for random inputs, and where the time goes.
import { randomInputs } from "../src/cli/random.ts";
import { msText, short, typeText } from "../src/cli/units.ts";
import { HeddleError, type LoadOptions, loadModel, type Model, type TensorData, toNumbers } from "../src/web/index.ts";
import { html, table } from "./dom.ts";
import type { Page } from "./page.ts";
import { timingOf } from "./timing.ts";

const SEED = 1;
const SHOWN_VALUES = 6;

/** A size that the file leaves open: a name stands for the same size everywhere, one without a name for itself. */
interface Open {
  readonly label: string;
  readonly field: HTMLInputElement;
}

const keyOf = (input: string, axis: number, size: string | null): string => size ?? `${input} axis ${axis}`;

function openSizes({ inputs }: Model): Map<string, Open> {
  const open = new Map<string, Open>();
  for (const { name, shape } of inputs) {
    if (!shape) throw new HeddleError("unsupported", `input ${name}: the file does not say how many axes it has; this page needs to know`);
    for (const [axis, size] of shape.entries()) {
      if (typeof size === "number") continue;
      const label = keyOf(name, axis, size);
      const field = html("input", { type: "number", min: 1, max: 65536, step: 1, value: 1, required: "" });
      if (!open.has(label)) open.set(label, { label, field });
    }
  }
  return open;
}

function inputsFor({ inputs }: Model, open: ReadonlyMap<string, Open>): Record<string, TensorData> {
  const concrete = inputs.map(({ name, dtype, shape }) => ({
    name,
    dtype,
    shape: (shape ?? []).map((size, axis) => (typeof size === "number" ? size : open.get(keyOf(name, axis, size))!.field.valueAsNumber)), // openSizes() made one for each
  }));
  return randomInputs(concrete, SEED);
}

/** Rows of a table: what can be seen of a tensor at a glance. */
function outputRow(name: string, tensor: TensorData): string[] {
  const values = toNumbers(tensor);
  let [least, most, sum] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 0];
  for (const v of values) {
    least = Math.min(least, v);
    most = Math.max(most, v);
    sum += v;
  }
  const first = [...values.subarray(0, SHOWN_VALUES)].map((v) => String(Number(v.toPrecision(6)))).join(" ");
  const more = values.length > SHOWN_VALUES ? " …" : "";
  const summary = values.length ? [least, most, sum / values.length].map(short) : ["", "", ""];
  return [name, typeText(tensor), first + more, ...summary];
}

/** Loads the file on the device; runs it at once where it leaves no size open, else when its form is sent. Returns what frees it. */
export async function showNetwork(
  page: Page,
  file: File,
  options: LoadOptions,
  guarded: (work: () => Promise<void>) => void,
): Promise<Model> {
  page.say(`Loading ${file.name}…`);
  const model = await loadModel(file, options);
  const open = openSizes(model);
  const results = html("div");
  const title = html("h2", {}, `${file.name} on ${model.deviceDescription}`);
  const signature = [
    ...model.inputs.map((v) => ["input", v.name, typeText(v)]),
    ...model.outputs.map((v) => ["output", v.name, typeText(v)]),
  ];
  const form = html("form", {}, ...[...open.values()].map(({ label, field }) => html("label", {}, label, field)));
  form.append(html("button", { type: "submit" }, "Run"));
  const run = async (): Promise<void> => {
    page.say("Compiling and running…");
    results.replaceChildren();
    const inputs = inputsFor(model, open);
    const start = performance.now();
    await model.run(inputs);
    const firstMs = performance.now() - start;
    const again = performance.now();
    const outputs = await model.run(inputs);
    const ms = performance.now() - again;
    const rows = Object.entries(outputs).map(([name, tensor]) => outputRow(name, tensor));
    const found = table(["output", "type", "first values", "least", "most", "mean"], rows, 3);
    found.id = "outputs";
    results.append(html("h2", {}, "Outputs for random inputs"), found);
    page.say("Timing each step…");
    results.append(...(await timingOf(model, inputs)));
    page.say(`${file.name}: ${msText(ms)} on ${model.deviceDescription} (${msText(firstMs)} with compiling)`);
  };
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    guarded(run);
  });
  page.show(title, table(["", "name", "type"], signature), form, results);
  if (open.size === 0) await run();
  else page.say(`${file.name} leaves ${open.size === 1 ? "a size" : "sizes"} open: set ${[...open.keys()].join(", ")}, then Run.`);
  return model;
}
