// A picture → its text, by the networks of examples/ocr served beside the page: lines with confidence, and the picture with their frames.
import { annotate } from "../examples/ocr/annotate.ts";
import { parseCharacters } from "../examples/ocr/ctc.ts";
import { FILES, INPUT, type Net, type Nets } from "../examples/ocr/net.ts";
import { readText } from "../examples/ocr/read_text.ts";
import { msText } from "../src/cli/units.ts";
import { HeddleError, type LoadOptions, loadModel, type Model } from "../src/web/index.ts";
import { html, table } from "./dom.ts";
import type { Page } from "./page.ts";
import { pictureCanvas, readPicture } from "./picture.ts";
import { timingOf } from "./timing.ts";

const FOLDER = "ocr/";

interface OpenNets {
  readonly nets: Nets;
  readonly detector: Model;
  /** What the detection network was given last. */
  lastInput(): Parameters<Model["run"]>[0];
  dispose(): void;
}

async function openNets(options: LoadOptions): Promise<OpenNets> {
  const opened: Model[] = [];
  const open = async (file: string): Promise<Model> => {
    const model = await loadModel(FOLDER + file, options);
    opened.push(model);
    return model;
  };
  const dispose = (): void => {
    for (const model of opened) model.dispose();
  };
  try {
    const characters = parseCharacters(await fetchText(FOLDER + FILES.characters));
    const [detector, orienter, recognizer] = [await open(FILES.detect), await open(FILES.orient), await open(FILES.recognize)];
    let lastInput = {};
    const net = (model: Model): Net => ({
      async run({ shape, data }) {
        const inputs = { [INPUT]: { dtype: "f32", shape, data } } as const;
        if (model === detector) lastInput = inputs;
        const [y] = Object.values(await model.run(inputs));
        return { shape: y.shape, data: y.data as Float32Array }; // the networks' outputs are float32
      },
    });
    const nets = { detect: net(detector), orient: net(orienter), recognize: net(recognizer), characters };
    return { nets, detector, lastInput: () => lastInput, dispose };
  } catch (e) {
    dispose();
    throw e;
  }
}

async function fetchText(address: string): Promise<string> {
  const response = await fetch(address);
  if (!response.ok)
    throw new HeddleError("missing", `${address}: the server answers ${response.status}; \`npm run web\` puts the networks there`);
  return response.text();
}

/** Reads a picture on the device and shows what it says. */
export async function showReading(page: Page, file: Blob, options: LoadOptions): Promise<void> {
  page.say("Loading three networks…");
  const image = await readPicture(file);
  const opened = await openNets(options);
  try {
    page.say("Reading: networks are compiled for each new shape…");
    const start = performance.now();
    const lines = await readText(image, opened.nets);
    const took = performance.now() - start;
    const rows = lines.map(({ text, confidence, turned }, i) => [
      String(i + 1),
      text,
      `${(confidence * 100).toFixed(1)} %`,
      turned ? `${turned}°` : "",
    ]);
    const title = `${lines.length} lines of text, read in ${msText(took)} on ${opened.detector.deviceDescription}`;
    const found = table(["", "text", "confidence", "turned by"], rows, 2);
    found.id = "lines";
    const picture = pictureCanvas(annotate(image, lines), "The picture with a numbered frame around each line");
    page.show(html("h2", {}, title), html("div", { class: "reading" }, found, picture));
    page.say("Timing the detection network's steps…");
    page.add(...(await timingOf(opened.detector, opened.lastInput())));
    page.say(title);
  } finally {
    opened.dispose();
  }
}
