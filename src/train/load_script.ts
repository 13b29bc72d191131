// A training script's path → its default export: JavaScript as Node loads it, TypeScript through esbuild, or through a Node that runs it.
import { existsSync, readFileSync, statSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { type Esbuild, findEsbuild } from "../data/module_url.ts";
import { HeddleError } from "../ir/error.ts";
import { isTraining, type Training } from "./define.ts";

/** The training that a script exports by default. Throws HeddleError ("missing", "bad-argument"). */
export async function loadTraining(script: string): Promise<Training> {
  const path = resolve(script);
  const found = statSync(path, { throwIfNoEntry: false });
  if (!found?.isFile()) throw new HeddleError("missing", `${script}: ${found ? "it is a folder" : "there is no such file"}`);
  const { default: training } = await importScript(path, script);
  if (!isTraining(training))
    throw new HeddleError("bad-argument", `${script}: its default export is no training; write export default defineTraining({ … })`);
  return training;
}

type Exports = Readonly<Record<string, unknown>>;

async function importScript(path: string, script: string): Promise<Exports> {
  const url = pathToFileURL(path).href;
  const esbuild = /\.m?ts$/.test(path) ? await findEsbuild(url) : undefined;
  try {
    return esbuild ? await importBundled(esbuild, path) : await importUrl(url);
  } catch (cause) {
    if (cause instanceof HeddleError) throw cause; // from the script's own code
    const { code, message } = cause as NodeJS.ErrnoException; // modules throw errors
    if (code === "ERR_UNKNOWN_FILE_EXTENSION")
      throw new HeddleError(
        "missing",
        `${script}: Node ${process.versions.node} runs no TypeScript; npm install esbuild, or use Node 22.18 or newer, or write the script as .mjs`,
        { cause },
      );
    throw new HeddleError("bad-argument", `${script}: does not load: ${message.split("\n").slice(0, 3).join(" ")}`, { cause });
  }
}

const importUrl = (url: string): Promise<Exports> => import(/* @vite-ignore */ url) as Promise<Exports>; // a module's exports

/** This heddle's own "heddle/train": beside the built command, or in the sources. */
const OWN = ["./train.js", "../train/index.ts"];
const ownEntry = (): string => fileURLToPath(OWN.map((place) => new URL(place, import.meta.url)).find((url) => existsSync(url))!); // one of them, by how this runs

/** In what is bundled, import.meta.url stays that of each source, where its data may lie. */
const plugin = (own: string): object => ({
  name: "training script",
  setup(build: { onResolve(on: object, f: () => object): void; onLoad(on: object, f: (file: { path: string }) => object): void }) {
    const isBuilt = own.endsWith(".js");
    build.onResolve({ filter: /^heddle\/train$/ }, () => (isBuilt ? { path: pathToFileURL(own).href, external: true } : { path: own }));
    build.onLoad({ filter: /\.m?ts$/ }, ({ path }) => ({
      contents: readFileSync(path, "utf8").replaceAll("import.meta.url", JSON.stringify(pathToFileURL(path).href)),
      loader: "ts",
    }));
  },
});

/** A file, and no data: URL, so that errors name the script's lines. */
async function importBundled(esbuild: Esbuild, path: string): Promise<Exports> {
  const { outputFiles } = await esbuild.build({
    entryPoints: [path],
    bundle: true,
    format: "esm",
    platform: "node",
    target: "node20",
    external: ["koffi", "esbuild"],
    plugins: [plugin(ownEntry())],
    sourcemap: "inline",
    write: false,
    logLevel: "silent",
    banner: {
      js: `import { createRequire as requireFrom } from "node:module"; const require = requireFrom(${JSON.stringify(pathToFileURL(path).href)});`,
    },
  });
  const folder = await mkdtemp(join(tmpdir(), "heddle-train-"));
  try {
    process.setSourceMapsEnabled(true);
    const file = join(folder, "script.mjs");
    await writeFile(file, outputFiles[0].text);
    return await importUrl(pathToFileURL(file).href);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
