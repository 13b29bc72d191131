// A module's URL → one that threads can import: TypeScript is compiled where Node does not run it.
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { fileURLToPath, pathToFileURL } from "node:url";
import { HeddleError } from "../ir/error.ts";

export interface Esbuild {
  build(options: object): Promise<{ readonly outputFiles: readonly { readonly text: string }[] }>;
}

const compiled = new Map<string, Promise<string>>();

/** JavaScript as it is; TypeScript as one `data:` URL of all that it imports, by esbuild, which is no dependency of heddle's users. */
export function loadableUrl(url: string): Promise<string> {
  if (!/^file:.*\.m?ts$/.test(url)) return Promise.resolve(url);
  let done = compiled.get(url);
  if (!done) {
    done = compile(url);
    compiled.set(url, done);
  }
  return done;
}

async function compile(url: string): Promise<string> {
  const esbuild = await findEsbuild(url);
  if (!esbuild) return url; // newer versions of Node, and loaders such as tsx, run it
  try {
    const { outputFiles } = await esbuild.build({
      entryPoints: [fileURLToPath(url)],
      bundle: true,
      format: "esm",
      platform: "node",
      target: "node20",
      external: ["koffi", "esbuild"],
      write: false,
      logLevel: "silent",
      define: { "import.meta.url": JSON.stringify(url) },
      banner: { js: `import { createRequire as requireFrom } from "node:module"; const require = requireFrom(${JSON.stringify(url)});` },
    });
    return `data:text/javascript;base64,${Buffer.from(outputFiles[0].text).toString("base64")}`;
  } catch (cause) {
    throw new HeddleError("missing", `data: ${url} does not compile: ${(cause as Error).message.split("\n").slice(0, 2).join(" ")}`, {
      cause,
    });
  }
}

/** esbuild of the script's folder, or of heddle's. */
export async function findEsbuild(url: string): Promise<Esbuild | undefined> {
  for (const from of [url, import.meta.url]) {
    try {
      const file = createRequire(from).resolve("esbuild"); // looked up at run time, so that bundles do not contain it
      const module = (await import(/* @vite-ignore */ pathToFileURL(file).href)) as Esbuild & { readonly default?: Esbuild }; // esbuild's own interface
      return module.default ?? module;
    } catch {
      // look elsewhere
    }
  }
  return undefined;
}

/** Where the program of worker threads may lie: beside the built package; in the sources; in the repository that a benchmark or an example was bundled in. */
const PLACES = ["data_worker.js", "worker.ts", "../../src/data/worker.ts", "../../../src/data/worker.ts"];

let worker: Promise<string> | undefined;

/** The program of worker threads. */
export function workerUrl(): Promise<string> {
  const place = PLACES.map((path) => new URL(path, import.meta.url)).find((url) => url.protocol === "file:" && existsSync(url));
  if (!place)
    throw new HeddleError("missing", "data: the program of worker threads (data_worker.js) is not beside heddle's; set workers: 0");
  worker ??= loadableUrl(place.href);
  return worker;
}
