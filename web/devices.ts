// The choice of device: what this browser has, with a reason beside what it has not.
import type { LoadOptions } from "../src/web/index.ts";
import { html } from "./dom.ts";

interface Choice {
  readonly id: string;
  readonly name: string;
  readonly options: LoadOptions;
  /** Why it cannot be had here. */
  readonly absent?: string;
}

async function choices(): Promise<Choice[]> {
  const threads = Math.min(4, Math.max(2, navigator.hardwareConcurrency));
  const adapter = await navigator.gpu?.requestAdapter();
  const noThreads = crossOriginIsolated ? undefined : "this page was served without COOP and COEP headers";
  const noGpu = navigator.gpu ? "this browser finds no GPU" : "this browser has none";
  return [
    { id: "wasm1", name: "WebAssembly, 1 thread", options: { device: "wasm", threads: 1 } },
    { id: "wasm", name: `WebAssembly, ${threads} threads`, options: { device: "wasm", threads }, absent: noThreads },
    { id: "webgpu", name: "WebGPU", options: { device: "webgpu" }, absent: adapter ? undefined : noGpu },
  ];
}

/** Fills the fieldset; returns what is chosen whenever asked. `onChange` is called after a choice. */
export async function showDevices(fieldset: HTMLElement, onChange: () => void): Promise<() => LoadOptions> {
  const all = await choices();
  let chosen = all.find(({ id, absent }) => id === "wasm" && !absent) ?? all[0];
  for (const choice of all) {
    const { id, name, absent } = choice;
    const radio = html("input", { type: "radio", name: "device", value: id, id: `device-${id}` });
    radio.checked = choice === chosen;
    radio.disabled = absent !== undefined;
    radio.addEventListener("change", () => {
      chosen = choice;
      onChange();
    });
    const text = absent ? `${name} (${absent})` : name;
    fieldset.append(html("label", absent ? { class: "absent" } : {}, radio, ` ${text}`));
  }
  return () => chosen.options;
}
