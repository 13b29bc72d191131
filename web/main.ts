// The page: a file that is dropped or chosen goes to the network's view or to reading, on the device that is picked.
import type { Model } from "../src/web/index.ts";
import { showDevices } from "./devices.ts";
import { byId } from "./dom.ts";
import { showNetwork } from "./network.ts";
import { openPage } from "./page.ts";
import { showReading } from "./reading.ts";

const SAMPLE = "ocr/receipt.jpg";

const page = openPage(byId("status", HTMLElement), byId("error", HTMLElement), byId("result", HTMLElement));
const drop = byId("drop", HTMLLabelElement);
const chooser = byId("file", HTMLInputElement);
const sample = byId("sample", HTMLButtonElement);

/** What is shown, to be shown again on another device. */
let shown: Blob | undefined;
let network: Model | undefined;
let isBusy = false;

/** One thing at a time; what goes wrong becomes one line. */
async function guarded(work: () => Promise<void>): Promise<void> {
  if (isBusy) return;
  isBusy = true;
  page.begin();
  document.body.setAttribute("aria-busy", "true");
  for (const control of document.querySelectorAll<HTMLButtonElement | HTMLInputElement>("button, #file")) control.disabled = true;
  try {
    await work();
  } catch (cause) {
    page.fail(cause);
  } finally {
    isBusy = false;
    document.body.removeAttribute("aria-busy");
    for (const control of document.querySelectorAll<HTMLButtonElement | HTMLInputElement>("button, #file")) control.disabled = false;
  }
}

const options = await showDevices(byId("devices", HTMLFieldSetElement), () => {
  if (shown) show(shown);
});

function show(file: Blob | Promise<Blob>): void {
  guarded(async () => {
    shown = await file;
    network?.dispose();
    network = undefined;
    page.show();
    if (shown.type.startsWith("image/")) await showReading(page, shown, options());
    else network = await showNetwork(page, shown as File, options(), guarded); // pictures aside, only files are given here
  });
}

async function fetchSample(): Promise<Blob> {
  const response = await fetch(SAMPLE);
  if (!response.ok) throw new Error(`${SAMPLE}: the server answers ${response.status}`);
  return response.blob();
}

chooser.addEventListener("change", () => {
  const [file] = chooser.files ?? [];
  if (file) show(file);
  chooser.value = ""; // the same file may be chosen again
});
sample.addEventListener("click", () => show(fetchSample()));

document.addEventListener("dragover", (event) => {
  event.preventDefault();
  drop.classList.add("over");
});
document.addEventListener("dragleave", () => drop.classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  const [file] = event.dataTransfer?.files ?? [];
  if (file) show(file);
});
page.say("Ready: drop a file.");
