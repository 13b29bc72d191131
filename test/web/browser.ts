// Debian's Chromium, driven by playwright-core, and the page of web/ served to it on this machine.
import { existsSync } from "node:fs";
import type { Server } from "node:http";
import type { AddressInfo } from "node:net";
import { type Browser, chromium, type Locator, type Page } from "playwright-core";

const CHROMIUM = "/usr/bin/chromium";
/** Why no test of the page can run here. */
export const whyNoBrowser = existsSync(CHROMIUM) ? undefined : "Debian package chromium is not installed";

/** WebGPU by SwiftShader, a GPU in software; nothing that asks the network. */
const ARGS = [
  "--headless",
  "--no-sandbox",
  "--enable-unsafe-webgpu",
  "--use-webgpu-adapter=swiftshader",
  "--enable-features=Vulkan",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

export const openBrowser = (): Promise<Browser> => chromium.launch({ executablePath: CHROMIUM, headless: true, args: ARGS });

/** The project's scripts are JavaScript: their types are told here. */
const script = (name: string): Promise<unknown> => import(new URL(`../../scripts/${name}`, import.meta.url).href);

export async function buildPage(folder: string): Promise<void> {
  const scripts = (await script("web.mjs")) as { buildPage(folder: string): Promise<void> };
  await scripts.buildPage(folder);
}

export async function servePage(folder: string, isIsolated = true): Promise<{ readonly url: string; close(): void }> {
  const scripts = (await script("serve.mjs")) as { serve(folder: string, options: { isIsolated: boolean }): Promise<Server> };
  const server = await scripts.serve(folder, { isIsolated });
  const { port } = server.address() as AddressInfo; // it listens on a port
  return { url: `http://127.0.0.1:${port}/`, close: () => server.close() };
}

/** The page once it is ready, and all that it complains of on its console. */
export async function openPage(browser: Browser, url: string): Promise<{ readonly page: Page; readonly complaints: string[] }> {
  const page = await browser.newPage();
  const complaints: string[] = [];
  page.on("console", (message) => {
    if (message.type() === "error") complaints.push(message.text());
  });
  page.on("pageerror", (error) => complaints.push(error.message));
  await page.goto(url);
  await page.getByText("Ready: drop a file.").waitFor();
  return { page, complaints };
}

/** Waits until the page has done what it was asked, and gives its error line, if there is one. */
export async function settled(page: Page): Promise<string> {
  await page.locator("body:not([aria-busy])").waitFor();
  const error = page.getByRole("alert");
  return (await error.isVisible()) ? textOf(error) : "";
}

export const textOf = async (found: Locator): Promise<string> => (await found.textContent()) ?? "";
