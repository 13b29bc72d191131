// heddle/web as a program uses it, in Node: every kind of source, the same results as the package's, and refusals as one line.
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, expect, test } from "vitest";
import { randomInputs } from "../../src/cli/random.ts";
import { exportOnnx } from "../../src/formats/onnx/export.ts";
import { loadModel as loadInNode } from "../../src/index.ts";
import { fromNumbers, HeddleError, loadModel, type Source } from "../../src/web/index.ts";
import { classifierGraph } from "../cli/sample_models.ts";

const bytes = new Uint8Array(exportOnnx(classifierGraph()));
const inputs = randomInputs([{ name: "x", dtype: "f32", shape: [1, 3, 12, 16] }], 3);
let server: Server;
let url: string;
let wanted: Float32Array;

beforeAll(async () => {
  server = createServer((request, response) => {
    if (request.url === "/model.onnx") response.end(bytes);
    else response.writeHead(404).end();
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`; // it listens on a port
  const model = await loadInNode(bytes, { cache: false, device: "wasm", threads: 1 });
  wanted = (await model.run(inputs)).y.data as Float32Array;
  model.dispose();
});
afterAll(() => server.close());

const sources: readonly (readonly [string, () => Source])[] = [
  ["an address", () => `${url}/model.onnx`],
  ["a URL", () => new URL("/model.onnx", url)],
  ["a file", () => new File([bytes], "model.onnx")],
  ["an ArrayBuffer", () => bytes.buffer],
  ["bytes", () => bytes],
];

test.each(sources)("a model from %s", async (_, source) => {
  using model = await loadModel(source(), { threads: 1 });
  expect([model.inputs[0].name, model.outputs[0].name, model.device, model.threads]).toEqual(["x", "y", "wasm", 1]);
  const { y } = await model.run(inputs);
  expect(y.data).toEqual(wanted);
});

test("runs may overlap, and profiles name the nodes", async () => {
  using model = await loadModel(bytes, { threads: 2 });
  const [times, ...runs] = await Promise.all([model.profile(inputs), model.run(inputs), model.run(inputs)]);
  for (const { y } of runs) for (const [i, v] of (y.data as Float32Array).entries()) expect(v).toBeCloseTo(wanted[i], 5);
  expect(times.map(({ name }) => name)).toContain("conv");
  expect(times.every(({ ms, flops, bytes: moved }) => ms >= 0 && flops > 0 && moved > 0)).toBe(true);
});

const refusalOf = (work: Promise<unknown>): Promise<unknown> =>
  work.then(
    () => "no refusal",
    (e: unknown) => e,
  );

test("what is refused, and why, in one line", async () => {
  using model = await loadModel(bytes, { threads: 1 });
  const cases: readonly (readonly [() => Promise<unknown>, RegExp])[] = [
    [() => loadModel(`${url}/none.onnx`), /^model http:\S+none\.onnx: the server answers 404 Not Found$/],
    [() => loadModel("http://127.0.0.1:1/model.onnx"), /^model http:\S+: it cannot be fetched \([^\n]+\)$/],
    [() => loadModel(new Blob(["no model"])), /^model: not a valid ONNX file/],
    [() => loadModel(bytes, { threads: 0 }), /^device wasm: threads is 0, wanted 1 to 256$/],
    [() => model.run({}), /^input x is missing, wanted f32\[1,3,12,16\]$/],
    [() => model.run({ x: fromNumbers("f32", [1], [0]) }), /^input x: got f32\[1\], the model wants f32\[1,3,12,16\]$/],
  ];
  for (const [work, message] of cases) {
    const refusal = await refusalOf(work());
    expect(refusal).toBeInstanceOf(HeddleError);
    expect((refusal as HeddleError).message).toMatch(message);
  }
  model.dispose();
  expect(await refusalOf(model.run(inputs))).toMatchObject({ code: "bad-argument" });
});
